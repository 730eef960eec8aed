"""What the producers will do: a pure function of the seed, so that every process knows it without being told."""

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
    """One purchase. `ref` goes into its metadata and stays with it; `named` ones carry it as `external_id` too."""

    ref: str
    customer_id: str
    amount: int
    named: bool
    refused: bool

    def body(self) -> dict[str, object]:
        """As the API takes it. A refused one has a currency that the programme does not take."""
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
    """Batches of every size and some single purchases, that many purchases in all."""
    chance = random.Random(seed)
    made: list[Operation] = []
    largest = max(2, min(_LARGEST_BATCH, purchases // _SMALLEST_NUMBER_OF_BATCHES))
    left = purchases
    while left > 0:
        batch = chance.random() >= _SINGLES
        size = min(left, chance.randint(2, largest)) if batch else 1
        number = len(made)
        lines = tuple(_purchase(chance, f"{seed}-{number}-{n}", customer_ids, batch=batch) for n in range(size))
        made.append(Operation(number, f"{seed}-{number}", lines, batch))
        left -= size
    return made


def _purchase(chance: random.Random, ref: str, customer_ids: Sequence[str], *, batch: bool) -> Purchase:
    amount = chance.randint(1, 99) if chance.random() < _TOO_SMALL_FOR_POINTS else chance.randint(100, 50_000)
    refused = batch and chance.random() < _REFUSED
    return Purchase(ref, chance.choice(customer_ids), amount, chance.random() < _NAMED, refused)
