"""What is kept and for how long, and that deliveries continue while old rows are removed."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from loyalpro.accounts.entities import AuditEntry, StoredResponse
from loyalpro.app import Application
from loyalpro.kernel.clock import MS_PER_DAY, SystemClock, UnixMs, VirtualClock
from loyalpro.kernel.ids import IdFactory, delivery_id, floor
from loyalpro.kernel.unit_of_work import WriterName
from loyalpro.settings import Settings
from loyalpro.storage.connection import Connection
from loyalpro.storage.database import Database
from loyalpro.storage.delivery_store import DatabaseDeliveryStore
from loyalpro.storage.postgres import partitions
from loyalpro.storage.postgres.partitions import Week
from support.databases import Databases
from support.history import ACCOUNT, VAULT, History, count, query, transaction
from support.jobs import Jobs, opened, run_jobs
from support.retention import counts, deliver
from support.units import unit_on


@pytest.fixture
def now() -> UnixMs:
    return SystemClock().now_ms()


@pytest.fixture
def history(database_url: str, now: UnixMs, one_connection: None) -> History:
    return History(database_url, now)


def test_rows_older_than_90_days_are_removed_and_younger_ones_are_kept(history: History, now: UnixMs) -> None:
    endpoint = history.endpoint()
    history.events(endpoint, 450, at=now - 91 * MS_PER_DAY)
    history.events(endpoint, 7, at=now - 89 * MS_PER_DAY)
    history.events(endpoint, 5, at=now)
    run_jobs(history.url, now)
    assert counts(history.url) == (12, 12, 12)
    assert count(history.url, "events", f"id < '{floor('evt', now - 90 * MS_PER_DAY)}'") == 0


def test_the_retention_follows_its_setting(history: History, now: UnixMs) -> None:
    endpoint = history.endpoint()
    history.events(endpoint, 3, at=now - 31 * MS_PER_DAY)
    run_jobs(history.url, now)
    assert counts(history.url) == (3, 3, 3)

    asyncio.run(opened(history.url, lambda database: Jobs(database, now, retention_days=30).run()))
    assert counts(history.url) == (0, 0, 0)


def test_a_retention_of_less_than_30_days_is_refused() -> None:
    assert Settings().retention_days == 90
    with pytest.raises(ValidationError, match="retention_days"):
        Settings(retention_days=29)


def test_maintenance_jobs_run_at_the_interval_of_the_settings(database_url: str) -> None:
    settings = Settings(database_url=database_url, secret_key="a key for tests of enough characters", sweep_interval=7)
    jobs = {job.kind.name: job.every_s for job in Application(settings).scheduler._jobs}
    assert {every_s for name, every_s in jobs.items() if name not in ("windows", "disk_space", "replays", "bulk")} == {
        7
    }
    assert set(jobs) >= {"windows", "retention", "unsent", "idempotency", "leftovers"}


def test_an_old_event_is_kept_while_it_has_a_pending_delivery(history: History, now: UnixMs) -> None:
    """A replay can make it pending: it may be sent while its window is open, and that needs the bytes of its event."""
    endpoint = history.endpoint("paused")
    pending, done = history.events(endpoint, 2, at=now - 100 * MS_PER_DAY)
    query(
        history.url,
        "UPDATE deliveries SET status = 'pending', finished_at = NULL, first_attempt_at = ? WHERE event_id = ?",
        *(now, pending),
    )
    run_jobs(history.url, now)
    assert query(history.url, "SELECT id FROM events") == [(pending,)]
    assert query(history.url, "SELECT id, status FROM deliveries") == [(delivery_id(pending, endpoint), "pending")]
    later = now + 4 * MS_PER_DAY
    run_jobs(history.url, later, "windows", "retention")
    assert counts(history.url) == (0, 0, 0)
    assert done


def test_unsent_deliveries_are_exhausted_a_week_before_the_end_of_their_event_and_cause_one_notice(
    history: History, now: UnixMs
) -> None:
    endpoint = history.endpoint("paused", ordering="customer")
    customer = history.ids.new("cus")
    old = history.events(endpoint, 3, at=now - 84 * MS_PER_DAY, status="pending", customer_id=customer, ordered=True)
    new = history.events(
        *(endpoint, 2), at=now - MS_PER_DAY, status="pending", customer_id=customer, first_sequence=4, ordered=True
    )
    query(history.url, "UPDATE deliveries SET due_at = NULL WHERE sequence = 4")
    run_jobs(history.url, now)
    run_jobs(history.url, now)
    assert set(query(history.url, "SELECT event_id, status FROM deliveries")) == {
        *((id_, "exhausted") for id_ in old),
        *((id_, "pending") for id_ in new),
    }
    assert query(history.url, "SELECT sequence FROM deliveries WHERE status = 'pending' AND due_at IS NOT NULL") == [
        (4,)
    ]
    assert query(history.url, "SELECT kind, endpoint_id FROM notices") == [("deliveries_given_up", endpoint)]
    assert count(history.url, "events") == 5


def test_replayed_events_of_the_last_week_stay_pending_while_the_endpoint_is_enabled(
    history: History, now: UnixMs
) -> None:
    endpoint = history.endpoint()
    events = history.events(endpoint, 3, at=now - 89 * MS_PER_DAY)
    with transaction(history.url) as connection:
        unit = unit_on(connection)
        to = unit.endpoints.get(ACCOUNT, endpoint)
        for event in filter(None, [unit.events.hold(ACCOUNT, id_) for id_ in events]):
            assert to is not None
            assert unit.deliveries.renew(["succeeded"], event, to, now)
    run_jobs(history.url, now)
    assert count(history.url, "deliveries", "status = 'pending'") == 3
    assert count(history.url, "notices") == 0
    query(history.url, "UPDATE endpoints SET status = 'paused'")
    run_jobs(history.url, now)
    assert count(history.url, "deliveries", "status = 'exhausted'") == 3


def test_unsent_deliveries_of_an_enabled_endpoint_keep_their_event_for_one_more_week(
    history: History, now: UnixMs
) -> None:
    """If its rate limit is lower than its rate of events, the backlog must not grow without end."""
    endpoint = history.endpoint()
    history.events(endpoint, 2, at=now - 98 * MS_PER_DAY, status="pending")
    [kept] = history.events(endpoint, 1, at=now - 96 * MS_PER_DAY, status="pending")
    run_jobs(history.url, now)
    assert query(history.url, "SELECT event_id, status FROM deliveries") == [(kept, "pending")]
    assert query(history.url, "SELECT id FROM events") == [(kept,)]
    assert query(history.url, "SELECT kind, endpoint_id FROM notices") == [("deliveries_given_up", endpoint)]


def test_an_old_delivery_with_a_manual_attempt_gets_its_earlier_status_back(history: History, now: UnixMs) -> None:
    endpoint = history.endpoint("paused")
    for status in ("succeeded", "exhausted", "canceled"):
        history.events(endpoint, 1, at=now - 85 * MS_PER_DAY, status=status)
    query(
        history.url,
        "UPDATE deliveries SET fallback_status = status, status = 'pending', finished_at = NULL, due_at = ?",
        now,
    )
    run_jobs(history.url, now)
    assert sorted(query(history.url, "SELECT status FROM deliveries")) == [
        ("canceled",),
        ("exhausted",),
        ("succeeded",),
    ]


def test_an_old_delivery_that_is_being_sent_is_not_changed(history: History, now: UnixMs) -> None:
    endpoint = history.endpoint()
    [event] = history.events(endpoint, 1, at=now - 95 * MS_PER_DAY, status="pending")
    query(history.url, "INSERT INTO workers VALUES ('wrk_1', 'h', 1, 1, ?)", now + MS_PER_DAY)
    query(history.url, "INSERT INTO leases VALUES (?, 'wrk_1', ?, 1, 1)", delivery_id(event, endpoint), endpoint)
    run_jobs(history.url, now)
    assert query(history.url, "SELECT status FROM deliveries") == [("pending",)]
    assert count(history.url, "events") == count(history.url, "leases") == 1


def test_a_lease_of_an_unknown_worker_is_released(history: History, now: UnixMs) -> None:
    endpoint = history.endpoint()
    [event] = history.events(endpoint, 1, at=now, status="pending")
    query(
        history.url, "INSERT INTO leases VALUES (?, 'wrk_gone', ?, 1, ?)", delivery_id(event, endpoint), endpoint, now
    )
    run_jobs(history.url, now)
    assert count(history.url, "leases") == 0
    assert query(history.url, "SELECT status, attempts, outcome FROM deliveries") == [("pending", 1, "interrupted")]
    assert query(history.url, "SELECT outcome FROM attempts") == [("interrupted",)]


def test_expired_results_and_secrets_old_notices_and_replays_and_rows_of_deleted_endpoints_are_removed(
    history: History, now: UnixMs
) -> None:
    kept, gone = history.endpoint(), history.endpoint()
    with transaction(history.url) as connection:
        for key, age in (("old", MS_PER_DAY), ("new", MS_PER_DAY - 1_000)):
            results = {key: StoredResponse(b"f", 201, b"{}")}
            unit_on(connection).idempotency.store(ACCOUNT, results, now - age)
        for n, age in enumerate((91, 89)):
            made_at = now - age * MS_PER_DAY
            connection.execute(
                "INSERT INTO notices VALUES (?, ?, ?, 'endpoint_failing', '', ?)",
                (floor("ntc", made_at), ACCOUNT, kept, made_at),
            )
            for status in ("done", "running"):
                connection.execute(
                    "INSERT INTO replays (id, account_id, endpoint_id, since, until, statuses, status, created_at,"
                    " finished_at) VALUES (?, ?, ?, 1, 2, '', ?, ?, ?)",
                    (floor("rpl", made_at + (status == "done")), ACCOUNT, kept, status, made_at,
                     made_at if status == "done" else None),
                )  # fmt: skip
            connection.execute(
                "INSERT INTO endpoint_secrets (endpoint_id, version, sealed, created_at, expires_at) VALUES (?, ?, ?, 1, ?)",
                (kept, n + 2, b"s", now + n),
            )
        for age in (401, 399):
            made_at = now - age * MS_PER_DAY
            entry = AuditEntry(
                floor("aud", made_at), ACCOUNT, "cli", "api_key.created", "key_1", made_at, None, None, None
            )
            unit_on(connection).audit_log.insert(entry)
        for endpoint in (kept, gone):
            connection.execute("INSERT INTO endpoint_health VALUES (?, 1, 1, 0, NULL, NULL, 0)", (endpoint,))
        connection.execute("UPDATE endpoints SET deleted_at = ? WHERE id = ?", (now, gone))
    run_jobs(history.url, now)
    assert query(history.url, "SELECT key FROM idempotency_keys") == [("new",)]
    assert query(history.url, "SELECT created_at FROM notices") == [(now - 89 * MS_PER_DAY,)]
    assert query(history.url, "SELECT created_at FROM audit_log") == [(now - 399 * MS_PER_DAY,)]
    assert count(history.url, "replays") == 3
    assert query(history.url, "SELECT endpoint_id, version FROM endpoint_secrets ORDER BY version") == [
        (kept, 1),
        (kept, 3),
    ]
    assert query(history.url, "SELECT endpoint_id FROM endpoint_health") == [(kept,)]


class Measured:
    """A database that records how many rows each transaction of the `upkeep` writer changed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.dialect = database.dialect
        self.pieces: list[int] = []

    async def read(self, work: Callable[[Connection], Any], writer: WriterName = "ingest") -> Any:
        return await self._database.read(work, writer)

    async def write(self, work: Callable[[Connection], Any], writer: WriterName = "ingest") -> Any:
        result = await self._database.write(work, writer)
        if writer == "upkeep" and isinstance(result, tuple) and type(result[0]) is int:
            self.pieces.append(result[0])
        return result


def deliver_during_retention(history: History, now: UnixMs) -> list[int]:
    """Deliver 2,000 events while 100,200 old rows are removed; the number of rows of each transaction that removes some."""
    endpoint = history.endpoint()
    history.events(endpoint, 33_400, at=partitions.week_start(now - 110 * MS_PER_DAY))
    history.events(endpoint, 2_000, at=now, status="pending")

    async def use(database: Database) -> tuple[int, list[int]]:
        measured: Any = Measured(database)
        clock = VirtualClock(now)
        deliveries = DatabaseDeliveryStore(database, VAULT, clock, IdFactory(clock, random.Random(7)))
        sent, _ = await asyncio.gather(deliver(deliveries, endpoint, now), Jobs(measured, now).run())
        await Jobs(measured, now).run()  # the next run drops a partition that was in use during the first one
        return sent, measured.pieces

    sent, pieces = asyncio.run(opened(history.url, use))
    assert sent == 2_000
    assert counts(history.url) == (2_000, 2_000, 2_000)
    assert count(history.url, "deliveries", "status = 'succeeded'") == 2_000
    return list(pieces)


def test_deliveries_continue_while_100_000_old_rows_are_removed_in_small_pieces(history: History, now: UnixMs) -> None:
    pieces = deliver_during_retention(history, now)
    assert max(pieces) == 200
    assert sum(pieces) == 3 * 33_400


def test_deliveries_continue_while_partitions_are_dropped_and_no_row_is_deleted(
    databases: Databases, now: UnixMs
) -> None:
    history = History(databases.fresh("postgres"), now)
    with transaction(history.url) as connection:
        for table in ("attempts", "deliveries_done", "events"):
            assert partitions.create(connection, Week(table, partitions.week_start(now - 110 * MS_PER_DAY)))
    assert sum(deliver_during_retention(history, now)) == 0
