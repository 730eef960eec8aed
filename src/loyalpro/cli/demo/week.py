"""The plan of the demo's past: who enrolled, bought, returned and redeemed what, and when. It stores nothing."""

import random
from collections.abc import Iterator
from typing import Final

from loyalpro.kernel.clock import MS_PER_DAY, MS_PER_S, UnixMs
from loyalpro.kernel.record import record

DAYS: Final = 8
"""A week and a day, so that today has the same day of the week before beside it."""
HOUR_MS: Final = 3_600 * MS_PER_S
MINUTE_MS: Final = 60 * MS_PER_S
NAMES: Final = (
    "Ada Brandt, Grace Okafor, Alan Weber, Edsger Visser, Barbara Rossi, Donald Meyer, Margaret Lindqvist, Ken Tanaka, "
    "Radia Costa, Tim Novak, Frances Dubois, Niklaus Frei, Lynn Carter, Dennis Moore, Karen Sato, Tony Almeida, "
    "Joan Fischer, Leslie Grant, Sophie Laurent, Jonas Berg, Mei Lin, Omar Haddad, Ines Duarte, Paul Jansen, Ruth Keller, "
    "Samir Patel, Elena Petrova, Hugo Martin, Clara Vogel, Nils Holm, Aisha Diallo, Marco Bianchi"
).split(", ")
GOODS: Final = (("ESPRESSO", 280), ("CROISSANT", 240), ("LUNCH", 1_290), ("BEANS-1KG", 2_450), ("GRINDER", 18_900))
REWARDS: Final = (("A free espresso", "ESPRESSO", 80), ("A bag of beans", "BEANS-1KG", 350))
"""The name of each reward, the article that is free with it, and its price in points."""
_OPENS_H: Final = 7
_BUSY: Final = (2, 5, 6, 4, 4, 8, 9, 5, 3, 4, 6, 8, 5, 2)
"""How many customers come in each hour of a day after the shop opens, beside each other."""
_PURCHASES_PER_DAY: Final = 30
_RETURNED: Final = 0.05
_COMPANY_ORDER: Final = 9
"""Who ordered for colleagues, which looked like fraud and was none."""
_SUSPECT: Final = 23
"""Who buys so often today that a case is open."""


@record
class Line:
    """An article of a purchase and its price in cents."""

    sku: str
    amount: int


@record
class Enrolls:
    """A customer enrolls. Customers are named by their place in `NAMES`."""

    at: UnixMs
    customer: int


@record
class Buys:
    """A customer buys. `number`: the receipt."""

    at: UnixMs
    customer: int
    number: str
    lines: tuple[Line, ...]


@record
class Returns:
    """The whole purchase of a receipt is returned."""

    at: UnixMs
    number: str


@record
class Redeems:
    """A customer asks for a reward, by its place in `REWARDS`, and gets it if the points are enough."""

    at: UnixMs
    customer: int
    reward: int


@record
class Gift:
    """Points that a customer gets by hand, for a late order; they expire on a date of their own."""

    at: UnixMs
    customer: int
    points: int
    expires_at: UnixMs


@record
class Dismisses:
    """Every open fraud case is found to be harmless."""

    at: UnixMs


@record
class PausesWarehouse:
    """The endpoint of the data warehouse is paused."""

    at: UnixMs


Step = Enrolls | Buys | Returns | Redeems | Gift | Dismisses | PausesWarehouse


def basket(rng: random.Random) -> tuple[Line, ...]:
    """What one customer buys: one to three articles, dear ones seldom."""
    chosen = rng.sample(GOODS[:4], rng.randint(1, 3))
    if rng.random() < 0.08:
        chosen.append(GOODS[4])
    return tuple(Line(sku, price) for sku, price in chosen)


def external_id(customer: int) -> str:
    """The number by which the shop knows a customer."""
    return f"demo-{NAMES[customer].split()[0].lower()}"


def email_of(customer: int) -> str:
    """The e-mail address of a customer."""
    return f"{NAMES[customer].lower().replace(' ', '.')}@example.com"


def plan(rng: random.Random, end: UnixMs) -> list[Step]:
    """What happened in the `DAYS` days before `end`, oldest first."""
    start = end - DAYS * MS_PER_DAY
    enrolled = _enrollments(rng, start, end)
    purchases = [
        *_purchases(rng, enrolled, start, end),
        *_many(_COMPANY_ORDER, start + 3 * MS_PER_DAY, "company", GOODS[4]),
    ]
    purchases += _many(_SUSPECT, end - 5 * HOUR_MS, "late", GOODS[2])
    steps: list[Step] = [*enrolled, *purchases, *_returns(rng, purchases, end), *_redemptions(rng, end)]
    steps += [
        Gift(start + 2 * MS_PER_DAY, customer, 250, end + (10 + customer) * MS_PER_DAY) for customer in range(0, 12, 2)
    ]
    steps += [Dismisses(start + 3 * MS_PER_DAY + 4 * HOUR_MS), PausesWarehouse(end - 38 * HOUR_MS)]
    return sorted((each for each in steps if each.at < end), key=lambda each: each.at)


def _enrollments(rng: random.Random, start: UnixMs, end: UnixMs) -> list[Enrolls]:
    """Two thirds within the first hour; the others one after the other until the end."""
    early = 2 * len(NAMES) // 3
    first = [Enrolls(start + (2 + number) * MINUTE_MS, number) for number in range(early)]
    later = sorted(rng.uniform(start + HOUR_MS, end - 6 * HOUR_MS) for _ in NAMES[early:])
    return first + [Enrolls(round(at), early + number) for number, at in enumerate(later)]


def _purchases(rng: random.Random, enrolled: list[Enrolls], start: UnixMs, end: UnixMs) -> Iterator[Buys]:
    """More at noon and in the evening, and none at night; some customers come more often than others."""
    since = {each.customer: each.at for each in enrolled}
    loyalty = [rng.choice((1, 1, 2, 3)) for _ in NAMES]
    number = 10_000
    midnight = start - start % MS_PER_DAY
    for day in range(DAYS + 1):
        for _ in range(_PURCHASES_PER_DAY):
            [hour] = rng.choices(range(len(_BUSY)), _BUSY)
            at = midnight + day * MS_PER_DAY + round((_OPENS_H + hour + rng.random()) * HOUR_MS)
            known = [each for each, from_ in since.items() if from_ < at]
            if known and at < end:
                number += 1
                [customer] = rng.choices(known, [loyalty[each] for each in known])
                yield Buys(at, customer, f"R-{number}", basket(rng))


def _many(customer: int, at: UnixMs, prefix: str, article: tuple[str, int]) -> list[Buys]:
    """So many purchases of one article within an hour that a fraud rule finds them."""
    return [Buys(at + each * 7 * MINUTE_MS, customer, f"R-{prefix}-{each + 1}", (Line(*article),)) for each in range(6)]


def _returns(rng: random.Random, purchases: list[Buys], end: UnixMs) -> list[Returns]:
    returned = [each for each in purchases if rng.random() < _RETURNED]
    return [Returns(min(each.at + rng.randint(1, 40) * HOUR_MS, end - 1), each.number) for each in returned]


def _redemptions(rng: random.Random, end: UnixMs) -> Iterator[Redeems]:
    for day in range(1, DAYS):
        for _ in range(5):
            at = end - day * MS_PER_DAY + round(rng.uniform(0, 20) * HOUR_MS)
            yield Redeems(at, rng.randrange(2 * len(NAMES) // 3), rng.randrange(len(REWARDS)))
