"""The metrics of a process, for Prometheus."""

import platform
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from loyalpro import __version__
from loyalpro.delivery.attempt import OutcomeCode
from loyalpro.delivery.lag import WaitsFor
from loyalpro.delivery.settlement import Settlement
from loyalpro.delivery.states import DeliveryStatus
from loyalpro.jobs.periodic_job import JobRun
from loyalpro.kernel.clock import MS_PER_S, Clock, UnixMs
from loyalpro.kernel.unit_of_work import WriterName

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_DELAY_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3_600, 86_400)


class Telemetry:
    """Counts what the process does. Labels are bounded sets: never an id, a URL or a value that a tenant chooses.

    What is not counted is read at a scrape from the parts of the process: see `watch`.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._oldest_due_at: Mapping[WaitsFor, UnixMs] = {}
        self.registry = CollectorRegistry()
        self._add_delivery_metrics()
        self._add_database_metrics()
        self._add_request_metrics()
        self._add_job_metrics()
        ProcessCollector(registry=self.registry)

    def _add_delivery_metrics(self) -> None:
        self._attempts = Counter(
            "loyalpro_delivery_attempts", "Delivery attempts by outcome.", ["outcome"], registry=self.registry
        )
        self._by_outcome = {each: self._attempts.labels(each.value) for each in OutcomeCode}
        self._attempt_s = Histogram(
            "loyalpro_delivery_attempt_seconds", "Duration of attempts.", buckets=_SECONDS, registry=self.registry
        )
        self._fenced = Counter(
            "loyalpro_settlements_fenced", "Settlements refused because the lease was lost.", registry=self.registry
        )
        self._in_flight = Gauge(
            "loyalpro_deliveries_in_flight", "Deliveries under way in this process.", registry=self.registry
        )
        self._first_attempt_s = Histogram(
            "loyalpro_delivery_first_attempt_delay_seconds",
            "Time from the commit of a delivery to the start of its first attempt.",
            buckets=_DELAY_SECONDS,
            registry=self.registry,
        )
        self._exhausted = Counter(
            "loyalpro_deliveries_exhausted", "Deliveries that this process has exhausted.", registry=self.registry
        )
        self._oldest_due_s = Gauge(
            "loyalpro_delivery_oldest_due_age_seconds",
            "How long the oldest due delivery of enabled endpoints has been due, by what it waits for; 0 without one.",
            ["waits_for"],
            registry=self.registry,
        )
        for each in WaitsFor:
            self._oldest_due_s.labels(each.value).set_function(partial(self._oldest_age_s, each))
        self._pending = Gauge(
            "loyalpro_deliveries_pending",
            "Deliveries of the whole database that are still to be sent, by the status that the API shows.",
            ["status"],
            registry=self.registry,
        )
        self._endpoints = Gauge(
            "loyalpro_endpoints",
            "Endpoints of the whole database: enabled ones by health, the others by status.",
            ["state"],
            registry=self.registry,
        )

    def _add_database_metrics(self) -> None:
        self._write_s = Histogram(
            "loyalpro_database_write_seconds",
            "Time from the request for a write to its commit, with the waits for the writer and for locks.",
            ["writer"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._read_s = Histogram(
            "loyalpro_database_read_seconds",
            "Time from the request for a read to its result, with the wait for a reader.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._database_errors = Counter(
            "loyalpro_database_errors", "Operations of the database that failed.", ["code"], registry=self.registry
        )

    def _add_request_metrics(self) -> None:
        self._requests = Counter(
            "loyalpro_http_requests", "API requests.", ["method", "route", "status"], registry=self.registry
        )
        self._request_s = Histogram(
            "loyalpro_http_request_seconds",
            "Duration of API requests.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )

    def _add_job_metrics(self) -> None:
        self._job_runs = Counter(
            "loyalpro_job_runs", "Runs of periodic jobs.", ["job", "result"], registry=self.registry
        )
        self._job_items = Counter(
            "loyalpro_job_items", "Rows or objects that periodic jobs changed.", ["job"], registry=self.registry
        )
        self._job_s = Gauge(
            "loyalpro_job_last_run_seconds",
            "Duration of the last run in this process.",
            ["job"],
            registry=self.registry,
        )
        self._job_finished = Gauge(
            "loyalpro_job_last_success_timestamp_seconds",
            "Unix time at which the last run without an error ended in this process.",
            ["job"],
            registry=self.registry,
        )

    def attempted(self, outcome: OutcomeCode, total_ms: float) -> None:
        """Count one delivery attempt that ended."""
        self._by_outcome[outcome].inc()
        self._attempt_s.observe(total_ms / MS_PER_S)

    def fenced(self) -> None:
        """Count one settlement that was refused because the lease was lost."""
        self._fenced.inc()

    def in_flight(self, count: int) -> None:
        """Set how many deliveries are under way."""
        self._in_flight.set(count)

    def settled(self, settlement: Settlement) -> None:
        """Measure one delivery whose outcome is durable."""
        attempt, created_at = settlement.attempt, settlement.claimed.created_at
        if attempt is not None and attempt.number == 1 and created_at is not None:
            self._first_attempt_s.observe(max(0, attempt.started_at - created_at) / MS_PER_S)
        if settlement.status is DeliveryStatus.EXHAUSTED and settlement.scheduled:
            self.exhausted(1)

    def exhausted(self, count: int) -> None:
        """Count deliveries that were given up."""
        self._exhausted.inc(count)

    def oldest_due(self, due_at: Mapping[WaitsFor, UnixMs]) -> None:
        """Take over since when the oldest due deliveries have been due. The age grows until the next call."""
        self._oldest_due_at = due_at

    def _oldest_age_s(self, waits_for: WaitsFor) -> float:
        due_at = self._oldest_due_at.get(waits_for)
        return 0.0 if due_at is None else max(0, self._clock.now_ms() - due_at) / MS_PER_S

    def deliveries_counted(self, counts: Mapping[str, int]) -> None:
        """Take over the numbers of pending deliveries by visible status."""
        _set_all(self._pending, counts)

    def endpoints_counted(self, counts: Mapping[str, int]) -> None:
        """Take over the numbers of endpoints by state."""
        _set_all(self._endpoints, counts)

    def database_wrote(self, writer: WriterName, elapsed_s: float) -> None:
        """Measure one write that is durable."""
        self._write_s.labels(writer).observe(elapsed_s)

    def database_read(self, elapsed_s: float) -> None:
        """Measure one read."""
        self._read_s.observe(elapsed_s)

    def database_failed(self, code: str) -> None:
        """Count one operation that failed."""
        self._database_errors.labels(code).inc()

    def requested(self, method: str, route: str, status: int, elapsed_s: float) -> None:
        """Count one response to an API request."""
        self._requests.labels(method, route, str(status)).inc()
        self._request_s.labels(route).observe(elapsed_s)

    def job_ran(self, run: JobRun) -> None:
        """Count one run of a periodic job."""
        self._job_runs.labels(run.job, "done" if run.error is None else "failed").inc()
        self._job_items.labels(run.job).inc(run.items)
        self._job_s.labels(run.job).set((run.finished_at - run.started_at) / MS_PER_S)
        if run.error is None:
            self._job_finished.labels(run.job).set(run.finished_at / MS_PER_S)

    def watch(self, name: str, description: str, read: Callable[[], float]) -> None:
        """Add a gauge whose value is read at each scrape; `read` must not wait for anything."""
        Gauge(name, description, registry=self.registry).set_function(read)

    def watch_process(self, namespace: str, process_id: Callable[[], int | None]) -> None:
        """Add the metrics of another process of this machine. They are missing while there is none."""
        ProcessCollector(namespace, lambda: process_id() or "none", registry=self.registry)

    def describe_build(self, store: str) -> None:
        """Add the versions of the program and of Python, and the store."""
        labels = {"version": __version__, "python": platform.python_version(), "store": store}
        info = Gauge("loyalpro_build_info", "Always 1: versions and store.", list(labels), registry=self.registry)
        info.labels(**labels).set(1)

    def render(self) -> bytes:
        """The metrics in the text format of Prometheus."""
        return generate_latest(self.registry)


def _set_all(gauge: Gauge, counts: Mapping[str, int]) -> None:
    for label, count in counts.items():
        gauge.labels(label).set(count)
