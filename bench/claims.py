"""The cost of claims and settlements: the engine's own statements, in transactions that are rolled back."""

import random
import statistics
import time
from collections.abc import Callable, Sequence

from loyalpro.delivery.attempt import OutcomeCode, Response, Timings
from loyalpro.delivery.claims import Claimed, ClaimRequest
from loyalpro.delivery.settlement import Attempt, Settlement
from loyalpro.delivery.states import DeliveryStatus
from loyalpro.kernel.clock import SystemClock
from loyalpro.kernel.ids import IdFactory
from loyalpro.storage.tables.claims import ClaimTables
from loyalpro.storage.tables.leases import LeaseTables
from loyalpro.storage.tables.settlements import SettlementTables
from loyalpro.storage.vault import Vault
from support.history import connect

CLAIM_SIZE = 64
_WORKER = "wrk_bench"
_TTL_MS = 3_600_000
_TURN_SIZE = 20
_HEADERS = (("content-type", "application/json"), ("webhook-signature", "v1," + "x" * 44), ("webhook-id", "x" * 30))


class Claims:
    """One connection to a database with at least 64 pending deliveries for each of these endpoints."""

    def __init__(self, url: str, vault: Vault, endpoints: Sequence[str]) -> None:
        self._connection = connect(url)
        self._vault = vault
        self._ids = IdFactory(SystemClock(), random.Random(1))
        self._endpoints = endpoints
        self._turn = 0
        self._connection.begin()
        LeaseTables(self._connection).register(_WORKER, host="bench", pid=1, now=_now(), ttl_ms=_TTL_MS)
        self._connection.commit()

    def claim(self) -> float:
        """Milliseconds for one claim of 64 for one endpoint; the endpoints take turns."""
        return self._timed(self._claim)

    def claim_and_settle(self) -> float:
        """Milliseconds for one claim of 64 and the settlement of all of them as succeeded."""
        return self._timed(lambda: self._settle(self._claim()))

    def backlog_scan(self) -> float:
        """Milliseconds for the scan of all endpoint queues that an engine does every second."""
        return self._timed(self._backlog_scan)

    def vacuum(self) -> None:
        """Remove the dead rows that rolled back transactions leave in the small tables of PostgreSQL."""
        if self._connection.dialect.is_postgres:
            self._connection.execute("VACUUM leases")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _timed(self, work: Callable[[], object]) -> float:
        self._turn += 1
        self._connection.begin()
        began_s = time.perf_counter()
        work()
        elapsed_s = time.perf_counter() - began_s
        self._connection.rollback()
        return elapsed_s * 1_000

    def _claim(self) -> Sequence[Claimed]:
        request = ClaimRequest(self._endpoints[self._turn % len(self._endpoints)], CLAIM_SIZE)
        claimed = ClaimTables(self._connection, self._vault).claim(_WORKER, [request], _now(), 0).claimed
        if len(claimed) != CLAIM_SIZE:
            raise RuntimeError(f"{len(claimed)} deliveries were claimed instead of {CLAIM_SIZE}")
        return claimed

    def _backlog_scan(self) -> None:
        after: str | None = ""
        while after is not None:
            after = ClaimTables(self._connection, self._vault).scan_backlog(_now(), after, 0).until

    def _settle(self, claimed: Sequence[Claimed]) -> None:
        now = _now()
        settlements = [Settlement(each, DeliveryStatus.SUCCEEDED, now, _attempt(each, now)) for each in claimed]
        tables = SettlementTables(self._connection, self._ids)
        tables.settle(_WORKER, settlements, now, longest_probe_s=60)


def compared(few: Callable[[], float], many: Callable[[], float], vacuum: Callable[[], None], times: int) -> "Compared":
    """Medians of both, measured in turns, so that other load on the machine affects both alike."""
    for _ in range(_TURN_SIZE):
        few(), many()
    costs: tuple[list[float], list[float]] = ([], [])
    for _ in range(max(1, times // _TURN_SIZE)):
        vacuum()
        for cost, kept in zip((few, many), costs, strict=True):
            kept += [cost() for _ in range(_TURN_SIZE)]
    return Compared(*map(statistics.median, costs))


class Compared:
    """Medians in milliseconds, in a database with few rows and in one with many."""

    def __init__(self, few_ms: float, many_ms: float) -> None:
        self.few_ms = few_ms
        self.many_ms = many_ms
        self.ratio = many_ms / few_ms

    def __str__(self) -> str:
        return f"{self.few_ms:.2f} | {self.many_ms:.2f} | {self.ratio:.2f}"


def _attempt(claimed: Claimed, now: int) -> Attempt:
    response = Response(200, _HEADERS, b'{"received":true}', truncated=False)
    timings = Timings(0.1, 0.2, 0.3, 0.4, 0.5)
    return Attempt(claimed.attempt_number, now, OutcomeCode.SUCCEEDED, "", _HEADERS, response, "127.0.0.1", timings)


def _now() -> int:
    return SystemClock().now_ms()
