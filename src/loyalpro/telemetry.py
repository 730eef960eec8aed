"""The metrics of a process, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from loyalpro.delivery.attempt import OutcomeCode
from loyalpro.jobs.periodic_job import JobRun
from loyalpro.kernel.clock import MS_PER_S

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Telemetry:
    """Counts what the process does. Labels are bounded sets: never an id, a URL or a value that a tenant chooses."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
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
        self._requests = Counter(
            "loyalpro_http_requests", "API requests.", ["method", "route", "status"], registry=self.registry
        )
        self._request_s = Histogram(
            "loyalpro_http_request_seconds", "Duration of API requests.", buckets=_SECONDS, registry=self.registry
        )
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

    def requested(self, method: str, route: str, status: int, elapsed_s: float) -> None:
        """Count one response to an API request."""
        self._requests.labels(method, route, str(status)).inc()
        self._request_s.observe(elapsed_s)

    def job_ran(self, run: JobRun) -> None:
        """Count one run of a periodic job."""
        self._job_runs.labels(run.job, "done" if run.error is None else "failed").inc()
        self._job_items.labels(run.job).inc(run.items)
        self._job_s.labels(run.job).set((run.finished_at - run.started_at) / MS_PER_S)
        if run.error is None:
            self._job_finished.labels(run.job).set(run.finished_at / MS_PER_S)

    def render(self) -> bytes:
        """The metrics in the text format of Prometheus."""
        return generate_latest(self.registry)
