"""The work of the producers: a pure function of the seed, so that every process can compute it."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

_LARGEST_BATCH = 100
_SMALLEST_NUMBER_OF_BATCHES = 10
_SINGLES = 0.85  # of the requests: about a tenth of the purchases
_REFUSED = 0.01
_TOO_SMALL_FOR_POINTS = 0.02
_NAMED = 0.5


@dataclass(frozen=True, slots=True)
class Purchase:
    """One purchase. Its metadata contains `ref`; if it is `named`, `ref` is also its `external_id`."""

    ref: str
    customer_id: str
    amount: int
    named: bool
    refused: bool

    def body(self) -> dict[str, object]:
        """The body for the API. A purchase to be refused has a currency that the program does not accept."""
        body: dict[str, object] = {
            "customer_id": self.customer_id,
            "amount": self.amount,
            "currency": "USD" if self.refused else "EUR",
            "metadata": {"ref": self.ref, "till": {"n": 7, "text": "Zoë \u2028 日本"}},
        }
        return body | ({"external_id": self.ref} if self.named else {})


@dataclass(frozen=True, slots=True)
class Operation:
    """One request with its Idempotency-Key: a batch, or a single purchase."""

    number: int
    key: str
    purchases: tuple[Purchase, ...]
    batch: bool


def operations(seed: str, purchases: int, customer_ids: Sequence[str]) -> list[Operation]:
    """Batches of random sizes and single purchases, `purchases` in all."""
    rng = random.Random(seed)
    made: list[Operation] = []
    largest = max(2, min(_LARGEST_BATCH, purchases // _SMALLEST_NUMBER_OF_BATCHES))
    left = purchases
    while left > 0:
        batch = rng.random() >= _SINGLES
        size = min(left, rng.randint(2, largest)) if batch else 1
        number = len(made)
        lines = tuple(_purchase(rng, f"{seed}-{number}-{n}", customer_ids, batch=batch) for n in range(size))
        made.append(Operation(number, f"{seed}-{number}", lines, batch))
        left -= size
    return made


def _purchase(rng: random.Random, ref: str, customer_ids: Sequence[str], *, batch: bool) -> Purchase:
    amount = rng.randint(1, 99) if rng.random() < _TOO_SMALL_FOR_POINTS else rng.randint(100, 50_000)
    refused = batch and rng.random() < _REFUSED
    return Purchase(ref, rng.choice(customer_ids), amount, rng.random() < _NAMED, refused)
