"""Live traffic beside a job: single purchases and reads of customers, each at its time, and how long each answer took."""

import itertools
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from bench.delays import Delays
from bench.server import Server

PER_S = 20
_CLIENTS = 16
_LOCATIONS = 300


@dataclass(frozen=True)
class Call:
    """A call: when it was due, on the wall clock, and how long after that its answer was complete."""

    is_purchase: bool
    at_s: float
    took_ms: float


@dataclass(frozen=True)
class Waits:
    """How long callers waited for purchases and for reads."""

    purchases: Delays
    reads: Delays

    @classmethod
    def of(cls, calls: Sequence[Call]) -> "Waits":
        """The waits of these calls."""
        purchases = sorted(each.took_ms for each in calls if each.is_purchase)
        return cls(Delays(purchases), Delays(sorted(each.took_ms for each in calls if not each.is_purchase)))


class LiveTraffic:
    """Calls at a steady rate, every other one a purchase, from the beginning of a `with` block to its end.

    A wait begins when its call was due, so a server that stands still is seen by every call that is due meanwhile.
    """

    def __init__(self, server: Server, customer_ids: Sequence[str]) -> None:
        self._server = server
        self._customer_ids = customer_ids
        self._calls: list[Call] = []
        self._errors: list[Exception] = []
        self._turns = itertools.count()
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(_CLIENTS)]
        self._began_s = 0.0

    def waits(self, begin_s: float, end_s: float) -> Waits:
        """The waits of the calls that were due between two instants of the wall clock. Raises what a call has raised."""
        if self._errors:
            raise self._errors[0]
        return Waits.of([each for each in list(self._calls) if begin_s <= each.at_s < end_s])

    def _run(self) -> None:
        """`next` on the counter is atomic, so each turn is of one thread."""
        client = self._server.client()
        while not self._errors:
            turn = next(self._turns)
            at_s = self._began_s + turn / PER_S
            if self._stopped.wait(max(0.0, at_s - time.time())):
                return
            try:
                call = self._purchase(turn) if turn % 2 else self._read(turn)
                client.call(*call)
            except Exception as error:  # noqa: BLE001 - raised again for the measurement
                self._errors.append(error)
                return
            self._calls.append(Call(bool(turn % 2), at_s, (time.time() - at_s) * 1_000))

    def _purchase(self, turn: int) -> tuple[str, str, object]:
        rng = random.Random(turn)
        body = {
            "customer_id": rng.choice(self._customer_ids),
            "amount": rng.randrange(500, 20_000),
            "currency": "EUR",
            "location_id": f"store-{rng.randrange(_LOCATIONS)}",
        }
        return "POST", "/v1/transactions", body

    def _read(self, turn: int) -> tuple[str, str]:
        return "GET", f"/v1/customers/{random.Random(turn).choice(self._customer_ids)}"

    def __enter__(self) -> Self:
        self._began_s = time.time()
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for each in self._threads:
            each.join()
