"""`loyalpro doctor --ledger` finds each kind of damage and names it, on both stores, and nothing in a database without any."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from loyalpro.events.customer import CustomerTierChanged, Qualification
from loyalpro.events.customer import Tier as TierShown
from loyalpro.kernel.clock import rfc3339
from loyalpro.loyalty.book import Book
from loyalpro.loyalty.deletion import DeleteCustomer, delete_customer
from loyalpro.loyalty.ledger_check import EVENTS_KEPT_MS
from loyalpro.loyalty.opening_balances import OpeningBalance, SetOpeningBalances, set_opening_balances
from loyalpro.loyalty.recording import Purchase, RecordPurchases, record_purchases
from loyalpro.loyalty.redemptions import (
    MadeRedemption,
    RedeemPoints,
    ReverseRedemption,
    redeem_points,
    reverse_redemption,
)
from loyalpro.loyalty.refunds import NewRefund, RefundPurchase, refund_purchase
from loyalpro.storage.unit_of_work import UnitOfWork
from support.commands import Commands
from support.customers import commit, enroll, open_account, purchase
from support.databases import Databases
from support.doctor import damage, found
from support.history import ACCOUNT, query


@dataclass(frozen=True)
class World:
    """A database with a customer to which everything happened, and the ids of what happened."""

    url: str
    customer: str
    other: str
    first: str
    second: str

    def copy(self, databases: Databases, folder: Path) -> "World":
        """The same in a database of its own."""
        if self.url.startswith("sqlite"):
            url = f"sqlite:///{folder / 'copy.db'}"
            shutil.copy(self.url.removeprefix("sqlite:///"), folder / "copy.db")
        else:
            url = databases.cluster.create_database("doctor", template=self.url.rpartition("/")[2])
        return World(url, self.customer, self.other, self.first, self.second)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def healthy(request: pytest.FixtureRequest, databases: Databases) -> World:
    url = databases.fresh(request.param)
    open_account(url)
    customer, other, gone = (enroll(url, name).id for name in ("shop-1", "shop-2", "shop-3"))
    first, second = sell(url, customer, 5_600), sell(url, customer, 12_000)
    sell(url, other, 9_900)
    sell(url, gone, 9_900)
    commit(url, lambda unit: redeem(unit, customer))
    commit(url, lambda unit: refund_purchase(unit, RefundPurchase(ACCOUNT, NewRefund(transaction_id=first))))
    commit(url, balance)
    commit(url, lambda unit: promote(unit, customer))
    commit(url, lambda unit: delete_customer(unit, DeleteCustomer(ACCOUNT, gone)))
    return World(url, customer, other, first, second)


def sell(url: str, customer_id: str, amount: int) -> str:
    sale = purchase(customer_id=customer_id, amount=amount)
    [sold] = commit(url, lambda unit: record_purchases(unit, RecordPurchases(ACCOUNT, [sale])))
    assert isinstance(sold, Purchase)
    return sold.transaction.id


def redeem(unit: UnitOfWork, customer_id: str) -> None:
    """Redeem 30 points, of which 10 come back."""
    command = RedeemPoints(ACCOUNT, customer_id, None, 30, None, None, None, None, None, None)
    made = redeem_points(unit, command)
    assert isinstance(made, MadeRedemption)
    reverse_redemption(unit, ReverseRedemption(ACCOUNT, made.redemption.id, 10))


def balance(unit: UnitOfWork) -> None:
    """An opening balance that has expired already, and one that has not."""
    rows = [
        OpeningBalance(None, "shop-2", None, 7, 1_500_000_000_000, None),
        OpeningBalance(None, "shop-2", None, 8, None, None),
    ]
    assert set_opening_balances(unit, SetOpeningBalances(ACCOUNT, rows)) == ["done", "done"]


def promote(unit: UnitOfWork, customer_id: str) -> None:
    """Two changes of the tier."""
    book = Book(unit, ACCOUNT, ids=[customer_id])
    wallet = book.wallet(customer_id)
    assert wallet
    for tier in book.program.tiers[1:]:
        before = wallet.customer.tier
        wallet.change_state(tier=tier)
        wallet.emit(
            CustomerTierChanged(
                customer_id=customer_id,
                customer_external_id=None,
                direction="upgrade",
                previous_tier=TierShown(id=before.id, name=before.name, rank=before.rank),
                tier=TierShown(id=tier.id, name=tier.name, rank=tier.rank),
                reason="manual",
                qualification=Qualification(
                    metric="points_earned", value=0, threshold=0, window_start=None, window_end=None
                ),
                effective_at=rfc3339(unit.now),
                tier_expires_at=None,
                next_tier=None,
            )
        )
    book.write()


def rewrite(world: World, type_: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the data of the last event of a type of the customer to which everything happened."""
    sql = "SELECT id, body FROM events WHERE type = ? AND customer_id = ? ORDER BY id DESC LIMIT 1"
    [(id_, body)] = query(world.url, sql, type_, world.customer)
    whole = json.loads(bytes(body))
    change(whole["data"])
    damage(world.url, ("UPDATE events SET body = ? WHERE id = ?", (json.dumps(whole).encode(), id_)))


@pytest.mark.parametrize("rows_per_page", [1, 20_000])
def test_nothing_is_found_in_a_database_without_damage(healthy: World, rows_per_page: int) -> None:
    assert found(healthy.url, rows_per_page=rows_per_page) == []


def test_events_that_are_too_old_to_be_kept_may_be_missing(
    healthy: World, databases: Databases, tmp_path: Path
) -> None:
    world = healthy.copy(databases, tmp_path)
    [(latest,)] = query(world.url, "SELECT MAX(created_at) FROM events")
    damage(world.url, "DELETE FROM events WHERE sequence < 4")
    assert found(world.url, now=latest + EVENTS_KEPT_MS + 1) == []
    assert any("has no event" in text for text in found(world.url))
    assert any("event 1 is missing" in text for text in found(world.url))


DAMAGES: dict[str, tuple[list[str], list[str]]] = {
    "available": (["UPDATE customers SET available = available + 1 WHERE id = :c"], ["active lots hold", "the entries end with"]),
    "pending": (["UPDATE customers SET pending = 1 WHERE id = :c"], ["pending lots hold 0, the balance says 1"]),
    "debt": (["UPDATE customers SET available = 0, debt = 5 WHERE id = :c"], ["the entries end with 100 and 0, the balance says -5 and 0"]),
    "ledger sequence": (["UPDATE customers SET ledger_sequence = 99 WHERE id = :c"], ["there are 5 entries, and there should be 99"]),
    "event sequence": (["UPDATE customers SET event_sequence = 99 WHERE id = :c"], ["and it should be 99"]),
    "entry removed": (["DELETE FROM ledger_entries WHERE customer_id = :c AND sequence = 2"], ["has sequence 3, expected 2", "tells of entry"]),
    "entry changed": (["UPDATE ledger_entries SET points = points + 1 WHERE customer_id = :c AND sequence = 1"], ["says 56 and 0 after it"]),
    "entry sequence": (["UPDATE ledger_entries SET sequence = 77 WHERE customer_id = :c AND sequence = 5"], ["has sequence 77, expected 5"]),
    "lot remaining": (["UPDATE lots SET remaining = remaining - 1 WHERE transaction_id = :t2"], ["active lots hold", "were taken out, and it holds"]),
    "lot original": (["UPDATE lots SET original = original + 1 WHERE transaction_id = :t2"], ["changes what is available and pending by 120, and what lots hold by 121"]),
    "lot status": (["UPDATE lots SET status = 'canceled' WHERE transaction_id = :t2"], ["is canceled, and holds", "active lots hold"]),
    "lot removed": (["DELETE FROM lots WHERE transaction_id = :t2"], ["took points out of lot"]),
    "lot of another": (["UPDATE lots SET customer_id = :o WHERE transaction_id = :t2"], ["comes from entry", "took points out of lot"]),
    "allocation removed": (["DELETE FROM allocations WHERE kind = 'restore'"], ["were taken out, and it holds", "redeem_reversal of 10, changes"]),
    "allocation changed": (["UPDATE allocations SET points = points + 1 WHERE kind = 'spend' AND entry_id IN (SELECT id FROM ledger_entries WHERE customer_id = :c)"], ["redeem of -30, changes what is available and pending by -30, and what lots hold by -31"]),
    "event removed": (["DELETE FROM events WHERE customer_id = :c AND type = 'points.redeemed'"], ["redeem of -30, has no event", "is missing"]),
    "event of a purchase removed": (["DELETE FROM events WHERE customer_id = :c AND sequence = 2"], ["event 2 is missing"]),
    "all events removed": (["DELETE FROM events WHERE customer_id = :c"], ["there are no events, and the last one should be"]),
    "tier": (["UPDATE customers SET tier_id = (SELECT id FROM tiers WHERE rank = 1) WHERE id = :c"], ["the last event of a tier changed it to"]),
    "day purchases": (["UPDATE customer_days SET purchases = purchases + 1 WHERE customer_id = :c"], ["has 2 purchases, and what happened on it comes to 1"]),
    "day spend": (["UPDATE customer_days SET spend = spend + 1 WHERE customer_id = :c"], ["has 12001 spend"]),
    "day points": (["UPDATE customer_days SET points_qualifying = 7 WHERE customer_id = :c"], ["has 7 points_qualifying, and what happened on it comes to 120"]),
    "day redemptions": (["UPDATE customer_days SET points_redeemed = 7 WHERE customer_id = :c"], ["has 7 points_redeemed"]),
    "day removed": (["DELETE FROM customer_days WHERE customer_id = :c"], ["has 0 purchases"]),
    "day added": (["INSERT INTO customer_days (customer_id, day, account_id, refunds) VALUES (:c, 3, 'a', 1)"], ["day 1970-01-04 has 1 refunds"]),
    "points of a purchase": (["UPDATE transactions SET points_earned = 121 WHERE id = :t2"], ["earned 121, and its entry 120"]),
    "clawed back": (["UPDATE transactions SET points_clawed_back = 57 WHERE id = :t1"], ["has 57 points clawed back, and its refunds 56", "earned 56, and its refunds took 57"]),
    "refunded": (["UPDATE transactions SET refunded_amount = 1 WHERE id = :t1"], ["has 1 refunded, and its refunds 5600"]),
    "refund too small": (["UPDATE transactions SET points_clawed_back = 5 WHERE id = :t1", "UPDATE refunds SET points_clawed_back = 5"], ["and its refunds took only 5", "took back 5, and its entries 56"]),
    "redemption": (["UPDATE redemptions SET points = 31"], [" is of 31, and its entry of 30"]),
    "points returned": (["UPDATE redemptions SET points_returned = 9"], [" came back, and by its entries 10"]),
    "open cases": (
        [
            "DROP INDEX fraud_cases_open",
            *(
                "INSERT INTO fraud_cases (id, account_id, rule_code, rule_version, key_type, key_hash, measurement, evidence, hits,"
                f" status, shadow, action, severity, score, first_at, last_at) VALUES ('frd_{n}', 'a', 'velocity.earn', 1, 'customer',"
                " :key, '{}', '[]', 1, 'open', 0, 'flag', 'low', 1, 1, 1)"
                for n in (1, 2)
            ),
        ],
        ["the rule velocity.earn has 2 open cases for one key"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_is_found_and_named(healthy: World, databases: Databases, tmp_path: Path, kind: str) -> None:
    world = healthy.copy(databases, tmp_path)
    values = {":c": world.customer, ":o": world.other, ":t1": world.first, ":t2": world.second, ":key": b"k"}
    statements, expected = DAMAGES[kind]

    def bound(sql: str) -> tuple[str, list[Any]]:
        pattern = "|".join(sorted(values, key=len, reverse=True))
        return re.sub(pattern, "?", sql), [values[name] for name in re.findall(pattern, sql)]

    damage(world.url, *map(bound, statements))
    texts = found(world.url)
    for part in expected:
        assert any(part in text for text in texts), texts
    whole = [text for text in texts if not text.startswith("the rule")]
    assert {text.partition(":")[0] for text in whole} <= {world.customer, world.other}


@pytest.mark.parametrize(
    ("type_", "field", "value", "expected"),
    [
        ("points.redeemed", "points", 31, "points.redeemed of 31, tells of entry"),
        ("points.redeemed", "entry_id", "led_0", "tells of entry led_0, which is not there"),
        ("points.redeemed", "balance", {"after": 1, "pending": 0, "debt": 0}, "tells of balances 1 and 0"),
        ("customer.tier_changed", "previous_tier", {"id": "tier_0"}, "changes the tier from tier_0, and the event before"),
    ],
)  # fmt: skip
def test_an_event_that_tells_something_else_is_found(
    healthy: World, databases: Databases, tmp_path: Path, type_: str, field: str, value: Any, expected: str
) -> None:
    world = healthy.copy(databases, tmp_path)
    rewrite(world, type_, lambda data: data.update({field: value}))
    assert any(expected in text for text in found(world.url)), found(world.url)


def test_two_events_of_one_entry_are_found(healthy: World, databases: Databases, tmp_path: Path) -> None:
    world = healthy.copy(databases, tmp_path)
    [(body,)] = query(world.url, "SELECT body FROM events WHERE type = 'points.redeemed'")
    entry = json.loads(bytes(body))["data"]["entry_id"]
    rewrite(world, "points.adjusted", lambda data: data.update({"entry_id": entry}))
    assert any(f"entry {entry} has 2 events" in text for text in found(world.url))


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    started = Commands()
    yield started
    started.stop()


def test_the_command(healthy: World, databases: Databases, tmp_path: Path, commands: Commands) -> None:
    world = healthy.copy(databases, tmp_path)
    environment = {"LOYALPRO_DATABASE_URL": world.url, "LOYALPRO_SECRET_KEY": "a key for tests of enough characters"}
    done = commands.run("doctor --ledger", tmp_path, environment)
    assert (done.status, done.stderr) == (0, "")
    assert (
        done.stdout == "3 customers checked: every balance, lot, day, sequence, event and tier follows from the log.\n"
    )
    assert commands.run("doctor", tmp_path, environment).status == 0
    damage(world.url, ("UPDATE customers SET available = available + 1 WHERE id = ?", (world.customer,)))
    done = commands.run("doctor --ledger", tmp_path, environment)
    assert done.status == 1
    *lines, last = done.stdout.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"{world.customer}: ") for line in lines)
    assert last == "3 customers checked: 2 things do not add up. Nothing was changed."


def test_the_command_says_whose_tier_cannot_be_derived(
    healthy: World, databases: Databases, tmp_path: Path, commands: Commands
) -> None:
    world = healthy.copy(databases, tmp_path)
    erase = "UPDATE events SET erased_at = 1 WHERE customer_id = ? AND type = 'customer.created'"
    damage(world.url, (erase, (world.other,)), (erase, (world.customer,)))
    environment = {"LOYALPRO_DATABASE_URL": world.url, "LOYALPRO_SECRET_KEY": "a key for tests of enough characters"}
    done = commands.run("doctor --ledger", tmp_path, environment)
    assert done.status == 0
    assert done.stdout.splitlines() == [
        "3 customers checked: every balance, lot, day, sequence, event and tier follows from the log.",
        "The tiers of 1 were not checked: the events that tell them are no longer kept.",
    ]


def test_a_database_of_another_version_is_not_checked(
    healthy: World, databases: Databases, tmp_path: Path, commands: Commands
) -> None:
    world = healthy.copy(databases, tmp_path)
    damage(world.url, "DELETE FROM schema_migrations WHERE name = '0014_program'")
    environment = {"LOYALPRO_DATABASE_URL": world.url, "LOYALPRO_SECRET_KEY": "a key for tests of enough characters"}
    done = commands.run("doctor --ledger", tmp_path, environment)
    assert done.status == 1
    assert "0014_program is missing" in done.stderr
