"""Sweeps change what is due because of the time, on both stores: once, in pieces, in several processes, past what fails."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from loyalpro.jobs.periodic_job import BATCH_SIZE, Piece
from loyalpro.kernel.clock import VirtualClock
from loyalpro.kernel.errors import InvalidInput, StoreUnavailable
from loyalpro.loyalty.book import Book
from loyalpro.loyalty.deletion import DeleteCustomer, delete_customer
from loyalpro.loyalty.expiry import ExpiryPolicy
from loyalpro.loyalty.redemptions import (
    MadeRedemption,
    RedeemPoints,
    ReverseRedemption,
    redeem_points,
    reverse_redemption,
)
from loyalpro.loyalty.sweeps.settling import EXPIRY, find_due, settle
from loyalpro.loyalty.sweeps.sweep import Due, Sweep
from loyalpro.loyalty.sweeps.tier_review import find_to_review, review
from loyalpro.loyalty.tier_assignment import AssignTier, assign_tier
from loyalpro.loyalty.tiers import TierWindow
from loyalpro.storage.unit_of_work import UnitOfWork
from support.history import ACCOUNT, count, query, transaction
from support.timeline import Timeline, instant

OTHER = "acct_01kat6b8z00000000000000001"


@pytest.fixture
def shop(database_url: str, one_connection: None) -> Timeline:
    return Timeline(database_url).open_account()


def points_events(shop: Timeline, customer_id: str) -> list[tuple[str, int]]:
    return [(each["type"], each["data"]["points"]) for each in shop.events(customer_id, "points.")]


def redeem(shop: Timeline, customer_id: str, points: int, *, reserve: bool = False) -> str:
    reserve_ms = 900_000 if reserve else None
    command = RedeemPoints(ACCOUNT, customer_id, None, points, None, reserve_ms, None, None, None, None)
    made = shop.commit(lambda unit: redeem_points(unit, command))
    assert isinstance(made, MadeRedemption)
    return made.redemption.id


# -- points ------------------------------------------------------------------------------------------------------------


def test_points_expire_at_the_end_of_their_last_day_and_only_once(shop: Timeline) -> None:
    ann = shop.enroll()
    shop.buy(ann, 56)
    shop.go_to("2027-11-28T23:59:59.999Z")
    assert shop.sweep("expiry") == (0, [])
    shop.go_to("2027-11-29T00:00Z")
    assert shop.sweep("expiry") == (1, [])
    assert shop.sweep("expiry") == (0, [])
    assert points_events(shop, ann) == [("points.earned", 56), ("points.expired", 56)]
    assert query(shop.url, "SELECT actor FROM ledger_entries WHERE type = 'expire'") == [("system:expiry",)]
    customer = shop.customer(ann)
    assert (customer.balance.available, customer.next_due_at) == (0, None)
    shop.check(ann)


def test_example_19_pending_points_become_active_on_their_day(shop: Timeline) -> None:
    shop.change_rules(pending_days=14)
    ann = shop.enroll()
    shop.buy(ann, 56)
    assert (shop.customer(ann).balance.available, shop.customer(ann).balance.pending) == (0, 56)
    shop.go_to("2026-12-11T23:59:59.999Z")
    assert shop.sweep("expiry") == (0, [])
    shop.go_to("2026-12-12T00:00Z")
    assert shop.sweep("expiry") == (1, [])
    assert (shop.customer(ann).balance.available, shop.customer(ann).balance.pending) == (56, 0)
    assert points_events(shop, ann) == [("points.earned", 56)]
    shop.check(ann)


def test_inactivity_takes_all_points_of_a_customer(shop: Timeline) -> None:
    shop.change_rules(expiry=ExpiryPolicy("inactivity", 6))
    ann = shop.enroll()
    shop.buy(ann, 56)
    shop.go_to("2027-05-28T12:00Z")
    shop.buy(ann, 10)
    assert shop.sweep("expiry") == (0, [])
    shop.go_to("2027-11-28T23:59:59.999Z")
    assert shop.sweep("expiry") == (0, [])
    shop.go_to("2027-11-29T00:00Z")
    assert shop.sweep("expiry") == (1, [])
    [expired] = [each["data"] for each in shop.events(ann, "points.expired")]
    assert (expired["points"], expired["policy"]) == (66, "inactivity_6")
    shop.check(ann)


def test_a_customer_who_bought_again_in_time_is_looked_at_once(shop: Timeline) -> None:
    """A purchase does not read lots, so it keeps the date of the one before, on which nothing is due any more."""
    shop.change_rules(expiry=ExpiryPolicy("inactivity", 6))
    ann = shop.enroll()
    shop.buy(ann, 56)
    shop.go_to("2027-05-01T12:00Z")
    shop.buy(ann, 10)
    shop.go_to("2027-05-29T00:00Z")
    assert shop.commit(lambda unit: len(find_due(unit, None, 9))) == 1
    assert shop.sweep("expiry") == (0, [])
    assert shop.commit(lambda unit: find_due(unit, None, 9)) == []
    shop.go_to("2027-11-02T00:00Z")
    assert shop.sweep("expiry") == (1, [])
    shop.check(ann)


def test_points_that_return_after_inactivity_expire_by_inactivity_again(shop: Timeline) -> None:
    """They return to the lot that inactivity has emptied before."""
    shop.change_rules(expiry=ExpiryPolicy("inactivity", 6))
    ann = shop.enroll()
    shop.buy(ann, 100)
    redemption = redeem(shop, ann, 40)
    shop.go_to("2027-05-29T00:00Z")
    assert shop.sweep("expiry") == (1, [])
    shop.commit(lambda unit: reverse_redemption(unit, ReverseRedemption(ACCOUNT, redemption, None)))
    assert shop.customer(ann).balance.available == 40
    shop.go_to("2027-11-30T00:00Z")
    assert shop.sweep("expiry") == (1, [])
    assert [each["data"]["points"] for each in shop.events(ann, "points.expired")] == [60, 40]
    shop.check(ann)


def test_a_deleted_customer_is_not_due(shop: Timeline) -> None:
    shop.change_rules(expiry=ExpiryPolicy("inactivity", 6))
    ann = shop.enroll()
    shop.buy(ann, 2_000)
    shop.commit(lambda unit: delete_customer(unit, DeleteCustomer(ACCOUNT, ann)))
    row = query(shop.url, "SELECT next_due_at, tier_review_at FROM customers WHERE id = ?", ann)
    assert row == [(None, None)]
    shop.go_to("2029-01-01T00:00Z")
    assert shop.sweep() == (0, [])


def test_a_late_sweep_never_lets_expired_points_be_spent(shop: Timeline) -> None:
    ann = shop.enroll()
    shop.buy(ann, 56)
    shop.go_to("2027-11-28T12:00Z")
    shop.buy(ann, 10)
    shop.go_to("2027-11-29T00:00Z")
    with pytest.raises(InvalidInput, match="has 10 points available"):
        redeem(shop, ann, 11)
    redeem(shop, ann, 10)
    assert points_events(shop, ann)[-2:] == [("points.expired", 56), ("points.redeemed", 10)]
    assert shop.sweep("expiry") == (0, [])
    shop.check(ann)


def test_a_sweep_goes_on_piece_by_piece_until_nothing_is_due(shop: Timeline) -> None:
    customers = shop.enroll_all(BATCH_SIZE + 3)
    shop.buy_each(customers, 5)
    shop.go_to("2028-01-01T00:00Z")
    assert shop.sweep("expiry") == (BATCH_SIZE + 3, [])
    assert count(shop.url, "ledger_entries", "type = 'expire'") == BATCH_SIZE + 3
    assert count(shop.url, "customers", "next_due_at IS NOT NULL OR available > 0") == 0


def test_customers_of_several_accounts_are_swept(shop: Timeline) -> None:
    shop.open_account(OTHER)
    ann, bob = shop.enroll(), shop.enroll(account_id=OTHER)
    shop.buy(ann, 2_000)
    shop.buy(bob, 2_000, account_id=OTHER)
    shop.go_to("2028-01-01T00:00Z")
    assert shop.sweep("expiry", "tier_review") == (4, [])
    for each, account_id in ((ann, ACCOUNT), (bob, OTHER)):
        assert shop.customer(each, account_id).tier.name == "Bronze"
        shop.check(each, account_id)


# -- reservations ------------------------------------------------------------------------------------------------------


def test_example_30_points_of_a_reservation_come_back_after_its_time(shop: Timeline) -> None:
    ann = shop.enroll()
    shop.buy(ann, 100)
    redemption_id = redeem(shop, ann, 60, reserve=True)
    assert shop.sweep("reservations") == (0, [])
    shop.clock.advance(900)
    assert shop.sweep("reservations") == (1, [])
    assert shop.sweep("reservations") == (0, [])
    assert shop.customer(ann).balance.available == 100
    assert query(shop.url, "SELECT status FROM redemptions WHERE id = ?", redemption_id) == [("expired",)]
    shop.check(ann)


# -- reviews -----------------------------------------------------------------------------------------------------------


def test_example_25_the_review_lowers_a_tier_that_a_refund_made_undeserved(shop: Timeline) -> None:
    shop.change_tiering(window=TierWindow("calendar"))
    ann = shop.enroll()
    shop.buy(ann, 940)
    shop.buy(ann, 112)

    def refund(unit: UnitOfWork) -> None:
        book = Book(unit, ACCOUNT, ids=[ann])
        wallet = book.wallet(ann)
        assert wallet is not None
        wallet.days.add(instant("2026-11-28T00:00Z") // 86_400_000, points_qualifying=-56)
        wallet.note_purchase(unit.now + 1)
        book.write()

    shop.commit(refund)
    assert shop.tier_of(ann) == "Silver"
    shop.go_to("2027-12-31T23:59:59.999Z")
    assert shop.sweep("tier_review") == (0, [])
    shop.go_to("2028-01-01T00:00Z")
    assert shop.sweep("tier_review") == (1, [])
    assert shop.sweep("tier_review") == (0, [])
    assert shop.tier_changes(ann) == [("Bronze", "Silver", "qualified"), ("Silver", "Bronze", "period_review")]
    data = shop.events(ann)[-1]["data"]
    assert (data["direction"], data["qualification"]["value"], data["tier_expires_at"]) == ("downgrade", 0, None)
    shop.check(ann)


@pytest.mark.parametrize(
    ("downgrade", "tier"),
    [
        pytest.param("to_qualified", "Bronze", id="26a"),
        pytest.param("one_level", "Silver", id="26b"),
        pytest.param("never", "Gold", id="26c"),
    ],
)
def test_a_review_of_gold_with_200_points(shop: Timeline, downgrade: Any, tier: str) -> None:
    shop.change_tiering(downgrade=downgrade)
    ann = shop.enroll()
    shop.buy(ann, 900)
    shop.buy(ann, 4_200)
    shop.go_to("2027-11-28T10:00Z")
    shop.buy(ann, 200)
    shop.go_to("2027-11-29T00:00Z")
    assert shop.sweep("tier_review") == (1, [])
    assert shop.tier_of(ann) == tier
    assert len(shop.tier_changes(ann)) == (1 if tier == "Gold" else 2)
    shop.check(ann)


def test_reviews_wait_for_the_days_of_grace_of_their_own_program(shop: Timeline) -> None:
    shop.open_account(OTHER)
    shop.change_tiering(grace_days=30)
    ann, bob = shop.enroll(), shop.enroll(account_id=OTHER)
    shop.buy(ann, 1_000)
    shop.buy(bob, 1_000, account_id=OTHER)
    shop.go_to("2027-11-29T00:00Z")
    assert shop.sweep("tier_review") == (1, [])
    assert (shop.tier_of(ann), shop.customer(bob, OTHER).tier.name) == ("Silver", "Bronze")
    shop.go_to("2027-12-28T23:59:59.999Z")
    assert shop.commit(lambda unit: find_to_review(unit, None, 10)) == []
    shop.go_to("2027-12-29T00:00Z")
    assert shop.sweep("tier_review") == (1, [])
    assert shop.tier_changes(ann)[-1] == ("Silver", "Bronze", "grace_ended")


def test_a_lock_is_reviewed_when_it_ends(shop: Timeline) -> None:
    ann = shop.enroll()
    gold = shop.tier("Gold").id
    command = AssignTier(ACCOUNT, ann, gold, instant("2029-01-01T12:00Z"), "guest of the house")
    shop.commit(lambda unit: assign_tier(unit, command))
    shop.go_to("2029-01-01T11:59:59.999Z")
    assert shop.sweep("tier_review") == (0, [])
    shop.go_to("2029-01-01T12:00Z")
    assert shop.sweep("tier_review") == (1, [])
    customer = shop.customer(ann)
    assert (customer.tier.name, customer.tier_locked_until, customer.tier_lock_reason) == ("Bronze", None, None)
    shop.check(ann)


def test_more_reviews_than_a_piece_has_in_two_accounts(shop: Timeline) -> None:
    shop.open_account(OTHER)
    for account_id, number in ((ACCOUNT, BATCH_SIZE + 10), (OTHER, 20)):
        shop.enroll_all(number, account_id)
    query(shop.url, "UPDATE customers SET tier_review_at = CASE account_id WHEN ? THEN 5 ELSE 0 END", ACCOUNT)
    assert shop.sweep("tier_review") == (BATCH_SIZE + 30, [])
    assert count(shop.url, "customers", "tier_review_at IS NOT NULL") == 0


def test_customers_of_the_release_before_are_moved_up_by_their_first_review(shop: Timeline) -> None:
    """The migration marks them as due; no tier was given before it."""
    ann = shop.enroll()
    shop.buy(ann, 600)
    query(shop.url, "UPDATE customers SET tier_review_at = 0, lifetime_earned = 1600")
    query(shop.url, "UPDATE customer_days SET points_qualifying = 1600")
    assert shop.sweep("tier_review") == (1, [])
    assert shop.tier_changes(ann) == [("Bronze", "Silver", "qualified")]
    assert shop.review_of(ann) == "2027-11-29T00:00:00.000Z"


# -- changes of the program --------------------------------------------------------------------------------------------


def queue(shop: Timeline) -> None:
    shop.commit(lambda unit: unit.programs.queue_retier(unit.ids.new("job"), ACCOUNT, "key:key_1", unit.now))


def jobs(shop: Timeline) -> list[tuple[Any, ...]]:
    return query(shop.url, "SELECT status, done FROM jobs WHERE kind = 'retier' ORDER BY id")


def test_changed_thresholds_move_all_customers_up_once(shop: Timeline) -> None:
    customers = shop.enroll_all(BATCH_SIZE + 5)
    shop.buy_each(customers[::50], 600)
    shop.change_tier("Silver", threshold=500)
    queue(shop)
    items, failures = shop.sweep("retier")
    assert (failures, items > BATCH_SIZE) == ([], True)
    assert jobs(shop) == [("done", BATCH_SIZE + 5)]
    for each in customers[::50]:
        assert shop.tier_changes(each) == [("Bronze", "Silver", "program_changed")]
        shop.check(each)
    assert count(shop.url, "events", "type = 'customer.tier_changed'") == len(customers[::50])
    assert shop.sweep("retier") == (0, [])


def test_customers_of_a_retired_tier_are_moved(shop: Timeline) -> None:
    ann, bob = shop.enroll(), shop.enroll()
    shop.buy(ann, 1_000)
    shop.buy(bob, 5_000)
    for name in ("Silver", "Gold"):
        shop.change_tier(name, retired_at=1)
    queue(shop)
    shop.sweep("retier")
    assert shop.tier_changes(ann)[-1] == ("Silver", "Bronze", "program_changed")
    assert shop.tier_changes(bob)[-1] == ("Gold", "Bronze", "program_changed")
    for each in (ann, bob):
        shop.check(each)


# -- what fails, and several processes ---------------------------------------------------------------------------------


def test_a_customer_that_fails_does_not_stop_the_others(shop: Timeline) -> None:
    """The row of one customer names a tier that its program does not have."""
    customers = shop.enroll_all(5)
    shop.buy_each(customers, 1_000)
    query(shop.url, "UPDATE customers SET tier_id = 'tier_gone' WHERE id = ?", customers[2])
    shop.change_tier("Silver", threshold=900)
    queue(shop)
    _, failures = shop.sweep("retier")
    assert failures == [("retier", customers[2], "ProgramMissing")]
    assert jobs(shop) == [("done", 4)]
    shop.go_to("2028-01-01T00:00Z")
    items, failures = shop.sweep("expiry", "tier_review")
    assert sorted(failures) == [(job, customers[2], "ProgramMissing") for job in ("expiry", "tier_review")]
    assert items == 8
    assert count(shop.url, "customers", "available > 0") == 1


def test_more_failures_than_a_piece_has_do_not_stop_the_others(shop: Timeline) -> None:
    shop.enroll_all(BATCH_SIZE)
    query(shop.url, "UPDATE customers SET tier_id = 'tier_gone', tier_review_at = 0, next_due_at = 5")
    ann = shop.enroll()
    shop.buy(ann, 1_000)
    shop.go_to("2028-01-01T00:00Z")
    items, failures = shop.sweep("expiry", "tier_review")
    assert (items, len(failures)) == (2, 2 * BATCH_SIZE)
    assert (shop.tier_of(ann), shop.customer(ann).balance.available) == ("Bronze", 0)


@pytest.mark.parametrize("store", ["postgres"])
def test_two_processes_sweep_at_once(shop: Timeline) -> None:
    """Both have found the same customers; the second waits for the locks of the first, and finds nothing to do."""
    customers = shop.enroll_all(30)
    shop.buy_each(customers, 1_000)
    shop.go_to("2028-01-01T00:00Z")
    rival = Timeline(shop.url, "2028-01-01T00:00Z", seed=2)
    ids = sorted(customers)
    for change in (settle, review):
        with ThreadPoolExecutor(2) as pool:
            with transaction(shop.url) as holder:
                holder.execute("SELECT id FROM customers WHERE id = ? FOR UPDATE", (ids[0],))
                sweeps = [
                    pool.submit(each.commit, lambda unit, run=change: run(unit, ACCOUNT, ids)) for each in (shop, rival)
                ]
                wait_for_waiting(shop.url, 2)
            assert sorted(each.result(30) for each in sweeps) == [0, 30]
    shop.check_all(customers)
    kinds = query(shop.url, "SELECT type, COUNT(*) FROM events GROUP BY type")
    assert dict(kinds) | {"points.expired": 30, "customer.tier_changed": 60} == dict(kinds)


@pytest.mark.parametrize("store", ["postgres"])
def test_sweeps_of_two_processes_do_everything_once(shop: Timeline) -> None:
    customers = shop.enroll_all(60)
    shop.buy_each(customers, 1_000)
    for each in customers[:10]:
        redeem(shop, each, 10, reserve=True)
    shop.go_to("2028-01-01T00:00Z")
    queue(shop)
    rivals = [shop, Timeline(shop.url, "2028-01-01T00:00Z", seed=2)]
    with ThreadPoolExecutor(2) as pool:
        results = [each.result(60) for each in [pool.submit(rival.sweep) for rival in rivals]]
    assert [failures for _, failures in results] == [[], []]
    shop.sweep()
    shop.check_all(customers)
    balances = query(shop.url, "SELECT available, COUNT(*) FROM customers GROUP BY available ORDER BY available")
    assert balances == [(0, 50), (10, 10)], "returned points of a reservation are valid for 30 days more"
    assert count(shop.url, "redemptions", "status = 'expired'") == 10
    assert count(shop.url, "events", "type = 'customer.tier_changed'") == 2 * len(customers)
    assert query(
        shop.url, "SELECT COALESCE(SUM(deadlocks), 0) FROM pg_stat_database WHERE datname = current_database()"
    ) == [(0,)]


def wait_for_waiting(url: str, number: int) -> None:
    """Until this number of transactions wait for a lock."""
    sql = (
        "SELECT COUNT(DISTINCT pid) FROM pg_locks JOIN pg_stat_activity USING (pid)"
        " WHERE datname = current_database() AND NOT granted"
    )
    while query(url, sql) != [(number,)]:
        pass


class FailingRunner:
    """Finds two customers; the first change fails as an unavailable database does."""

    def __init__(self) -> None:
        self.changes = 0

    async def read(self, _work: Any) -> Any:
        return [Due(ACCOUNT, "cus_1", 1), Due(ACCOUNT, "cus_2", 1)]

    async def change(self, _work: Any, _writer: Any = "ingest", *, actor: str = "") -> Any:
        self.changes += 1
        if self.changes == 1:
            raise StoreUnavailable("The database is not available.")
        return 2

    lookup = read


def test_a_failure_of_the_database_ends_the_run_and_is_no_failure_of_a_customer() -> None:
    """What is left is done by the next run."""
    failures: list[Any] = []
    runner = FailingRunner()
    sweep = Sweep[Any](runner, VirtualClock(), EXPIRY, find_due, settle, lambda *failure: failures.append(failure))
    with pytest.raises(StoreUnavailable):
        asyncio.run(sweep.run_piece(0))
    assert (runner.changes, failures) == (1, [])
    assert asyncio.run(sweep.run_piece(0)) == Piece(items=2, more=False)


class SlowRunner:
    """Finds customers, and notes how many of them each transaction changes. Every commit takes long."""

    def __init__(self, clock: VirtualClock, due: int) -> None:
        self.sizes: list[int] = []
        self._clock = clock
        self._due = due

    async def read(self, _work: Any) -> Any:
        return [Due(ACCOUNT, f"cus_{n:03}", 1) for n in range(self._due)]

    async def change(self, work: Any, _writer: Any = "ingest", *, actor: str = "") -> Any:
        size: int = work(None)
        self._clock.advance(1)  # a wait for the commit
        self.sizes.append(size)
        return size

    lookup = read


def test_transactions_are_short_when_there_is_much_to_change_about_each_customer() -> None:
    """What callers send comes between two of them. A customer may have thousands of points that expire in one night."""
    clock, seen = VirtualClock(), list[str]()

    def change(_unit: Any, _account_id: str, ids: Sequence[str]) -> int:
        seen.extend(ids)
        clock.advance(0.004 * len(ids))
        return len(ids)

    runner = SlowRunner(clock, 27)
    sweep = Sweep[Any](runner, clock, EXPIRY, find_due, change, lambda *_: None)
    assert asyncio.run(sweep.run_piece(0)) == Piece(items=27, more=False)
    assert runner.sizes == [10, 6, 6, 5]
    assert seen == [f"cus_{n:03}" for n in range(27)]
