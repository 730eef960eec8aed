"""Customers move between tiers in the transaction of the cause, on both stores."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from loyalpro.kernel.errors import InvalidInput, NotFound
from loyalpro.loyalty.book import Book
from loyalpro.loyalty.program import RefundPolicy
from loyalpro.loyalty.tier_assignment import AssignTier, assign_tier, status_of
from loyalpro.loyalty.tiers import TierWindow
from loyalpro.storage.unit_of_work import UnitOfWork
from support.customers import purchase
from support.history import ACCOUNT
from support.timeline import Timeline, instant


@pytest.fixture
def shop(database_url: str, one_connection: None) -> Timeline:
    return Timeline(database_url).open_account()


def assign(shop: Timeline, customer_id: str, tier: str, locked_until: str | None = None) -> None:
    locked = None if locked_until is None else instant(locked_until)
    command = AssignTier(ACCOUNT, customer_id, shop.tier(tier).id, locked, "a reason")
    shop.commit(lambda unit: assign_tier(unit, command))


def refund(shop: Timeline, customer_id: str, points: int, day: str = "2026-11-28") -> None:
    """What a refund changes of the days, as seen by the tiers."""

    def work(unit: UnitOfWork) -> None:
        book = Book(unit, ACCOUNT, ids=[customer_id])
        wallet = book.wallet(customer_id)
        assert wallet is not None
        was_earned = book.tiers.is_earned(wallet)
        wallet.days.add(instant(day) // 86_400_000, points_qualifying=-points, refunds=1)
        if was_earned:
            book.tiers.lower(wallet)
        wallet.change_state(last_purchase_at=unit.now)
        book.write()

    shop.commit(work)


# -- at once -----------------------------------------------------------------------------------------------------------


def test_example_25_a_purchase_moves_its_customer_up_at_once(shop: Timeline) -> None:
    ann = shop.enroll("ann")
    shop.buy(ann, 940)
    assert shop.tier_of(ann) == "Bronze"
    assert shop.review_of(ann) is None
    shop.buy(ann, 112)
    assert shop.tier_of(ann) == "Silver"
    assert shop.review_of(ann) == "2027-11-29T00:00:00.000Z"
    kinds = [each["type"] for each in shop.events(ann)][-3:]
    assert kinds == ["transaction.completed", "points.earned", "customer.tier_changed"]
    bronze, silver, gold = (shop.tier(name) for name in ("Bronze", "Silver", "Gold"))
    assert shop.events(ann)[-1]["data"] == {
        "customer_id": ann,
        "customer_external_id": "ann",
        "direction": "upgrade",
        "previous_tier": {"id": bronze.id, "name": "Bronze", "rank": 1},
        "tier": {"id": silver.id, "name": "Silver", "rank": 2},
        "reason": "qualified",
        "qualification": {
            "metric": "points_earned",
            "value": 1_052,
            "threshold": 1_000,
            "window_start": "2025-11-29T00:00:00.000Z",
            "window_end": "2026-11-29T00:00:00.000Z",
        },
        "effective_at": "2026-11-28T10:00:00.000Z",
        "tier_expires_at": "2027-11-29T00:00:00.000Z",
        "next_tier": {"id": gold.id, "name": "Gold", "remaining": 3_948},
    }
    refund(shop, ann, 56)
    assert shop.tier_of(ann) == "Silver"
    shop.check(ann)


def test_example_26_an_upgrade_skips_a_tier_with_one_event(shop: Timeline) -> None:
    ann = shop.enroll()
    shop.buy(ann, 900)
    shop.buy(ann, 4_200)
    assert shop.tier_changes(ann) == [("Bronze", "Gold", "qualified")]
    assert shop.events(ann)[-1]["data"]["next_tier"] is None
    shop.check(ann)


def test_purchases_of_a_batch_move_their_customer_as_if_each_were_sent_alone(shop: Timeline) -> None:
    together, alone = shop.enroll("a"), shop.enroll("b")
    points = (600, 500, 100, 4_000, 10)
    shop.buy(together, *points)
    for each in points:
        shop.buy(alone, each)
    changes = shop.tier_changes(together)
    assert changes == [("Bronze", "Silver", "qualified"), ("Silver", "Gold", "qualified")] == shop.tier_changes(alone)
    values = [
        [each["data"]["qualification"] for each in shop.events(id_, "customer.tier_changed")]
        for id_ in (together, alone)
    ]
    assert values[0] == values[1]
    assert [each["type"] for each in shop.events(together)] == [each["type"] for each in shop.events(alone)]
    for id_ in (together, alone):
        shop.check(id_)


def test_a_batch_reads_the_windows_of_all_its_customers_once(shop: Timeline) -> None:
    customers = [shop.enroll() for _ in range(5)]
    for each in customers:
        shop.buy(each, 700)
    shop.record([purchase(customer_id=each, amount=40_000) for each in customers])
    assert {shop.tier_of(each) for each in customers} == {"Silver"}
    values = {shop.events(each)[-1]["data"]["qualification"]["value"] for each in customers}
    assert values == {1_100}


def test_points_outside_of_the_window_do_not_count(shop: Timeline) -> None:
    ann = shop.enroll()
    shop.buy(ann, 900, at="2025-11-28T12:00Z")
    shop.buy(ann, 900, at="2025-11-29T12:00Z")
    assert shop.tier_of(ann) == "Bronze"
    shop.buy(ann, 100)
    assert shop.tier_of(ann) == "Silver"
    assert shop.events(ann)[-1]["data"]["qualification"]["value"] == 1_000
    shop.check(ann)


def test_example_23_a_late_purchase_is_earned_expires_and_stays_outside_of_the_window(shop: Timeline) -> None:
    ann = shop.enroll()
    shop.buy(ann, 990)
    shop.buy(ann, 56, at="2025-10-01T12:00Z")
    assert shop.customer(ann).balance.available == 990
    assert [(each["type"], each["data"]["points"]) for each in shop.events(ann, "points.")][-2:] == [
        ("points.earned", 56),
        ("points.expired", 56),
    ]
    assert shop.tier_changes(ann) == []
    shop.check(ann)


@pytest.mark.parametrize(
    ("metric", "threshold", "before"),
    [("spend", 20_000, [100, 99]), ("transactions", 3, [1, 1])],
)
def test_other_metrics_count_money_or_purchases(shop: Timeline, metric: Any, threshold: int, before: list[int]) -> None:
    shop.change_tiering(metric=metric)
    shop.change_tier("Silver", threshold=threshold)
    shop.change_tier("Gold", threshold=2 * threshold)
    ann = shop.enroll()
    for each in before:
        shop.buy(ann, each)
    assert shop.tier_of(ann) == "Bronze"
    shop.buy(ann, 1)
    assert shop.tier_changes(ann) == [("Bronze", "Silver", "qualified")]
    qualification = shop.events(ann)[-1]["data"]["qualification"]
    assert (qualification["metric"], qualification["value"]) == (metric, threshold)
    shop.check(ann)


def test_a_tier_for_life_has_no_window_and_no_review(shop: Timeline) -> None:
    shop.change_tiering(window=TierWindow("lifetime"))
    ann = shop.enroll()
    shop.buy(ann, 1_000, at="2001-01-01T00:00Z")
    data = shop.events(ann)[-1]["data"]
    assert shop.tier_of(ann) == "Silver"
    assert data["tier_expires_at"] is None
    assert (data["qualification"]["window_start"], data["qualification"]["window_end"]) == (None, None)


def test_an_anniversary_window_belongs_to_the_customer(shop: Timeline) -> None:
    shop.change_tiering(window=TierWindow("anniversary"))
    shop.go_to("2027-03-05T10:00Z")
    ann = shop.enroll()
    shop.go_to("2028-03-04T10:00Z")
    bob = shop.enroll()
    for each in (ann, bob):
        shop.buy(each, 900)
    shop.go_to("2028-03-05T10:00Z")
    shop.record([purchase(customer_id=each, amount=10_000) for each in (ann, bob)])
    assert (shop.tier_of(ann), shop.tier_of(bob)) == ("Bronze", "Silver")
    shop.buy(ann, 900)
    window = shop.events(ann)[-1]["data"]["qualification"]
    assert (window["window_start"], window["window_end"]) == ("2028-03-05T00:00:00.000Z", "2029-03-05T00:00:00.000Z")
    assert shop.review_of(ann) == "2030-03-05T00:00:00.000Z"


# -- by hand -----------------------------------------------------------------------------------------------------------


def test_a_call_moves_a_customer_and_locks_its_tier(shop: Timeline) -> None:
    ann = shop.enroll()
    assign(shop, ann, "Gold", locked_until="2027-01-31T12:00Z")
    assert shop.tier_changes(ann) == [("Bronze", "Gold", "manual")]
    customer = shop.customer(ann)
    assert customer.tier_locked_until == customer.tier_review_at == instant("2027-01-31T12:00Z")
    assert customer.tier_lock_reason == "a reason"
    assert shop.events(ann)[-1]["data"]["tier_expires_at"] == "2027-01-31T12:00:00.000Z"
    assign(shop, ann, "Silver")
    customer = shop.customer(ann)
    assert (customer.tier_locked_until, customer.tier_lock_reason) == (None, "a reason")
    assert shop.review_of(ann) == "2027-11-29T00:00:00.000Z"
    assert shop.tier_changes(ann)[-1] == ("Gold", "Silver", "manual")
    shop.check(ann)


def test_a_locked_customer_is_not_moved_up_until_the_lock_ends(shop: Timeline) -> None:
    ann = shop.enroll()
    assign(shop, ann, "Bronze", locked_until="2026-12-01T00:00Z")
    shop.buy(ann, 2_000)
    assert shop.tier_changes(ann) == []
    shop.go_to("2026-12-01T00:00Z")
    shop.buy(ann, 1)
    assert shop.tier_changes(ann) == [("Bronze", "Silver", "qualified")]
    assert shop.customer(ann).tier_locked_until is None
    shop.check(ann)


def test_the_same_tier_by_hand_is_no_change(shop: Timeline) -> None:
    ann = shop.enroll()
    assign(shop, ann, "Bronze")
    assert shop.tier_changes(ann) == []
    assert shop.review_of(ann) is None


@pytest.mark.parametrize("wrong", ["unknown", "retired", "past", "customer"])
def test_a_wrong_assignment_is_refused(shop: Timeline, wrong: str) -> None:
    ann, silver = shop.enroll(), shop.tier("Silver").id
    right = AssignTier(ACCOUNT, ann, silver, None, "r")
    if wrong == "retired":
        shop.change_tier("Silver", retired_at=1)
    command = {
        "unknown": replace(right, tier_id="tier_nope"),
        "retired": right,
        "past": replace(right, locked_until=shop.clock.now_ms()),
        "customer": replace(right, customer_id="cus_nope"),
    }[wrong]
    code = {"past": "locked_until_in_past", "customer": "customer_not_found"}.get(wrong, "unknown_tier")
    with pytest.raises((InvalidInput, NotFound)) as refusal:
        shop.commit(lambda unit: assign_tier(unit, command))
    assert refusal.value.code == code
    assert shop.tier_changes(ann) == []


def test_a_call_that_lowers_a_tier_holds_until_the_next_purchase(shop: Timeline) -> None:
    """Without a lock, the customer is moved up again as soon as it qualifies."""
    ann = shop.enroll()
    shop.buy(ann, 1_500)
    assign(shop, ann, "Bronze")
    assert shop.tier_of(ann) == "Bronze"
    shop.buy(ann, 1)
    assert [each[2] for each in shop.tier_changes(ann)] == ["qualified", "manual", "qualified"]
    shop.check(ann)


# -- after a refund ----------------------------------------------------------------------------------------------------


@pytest.fixture
def strict(shop: Timeline) -> Timeline:
    """A shop in which refunds lower tiers at once."""
    shop.change_rules(refunds=RefundPolicy(tier="immediate"))
    return shop


def test_a_refund_takes_a_tier_that_it_made_undeserved(strict: Timeline) -> None:
    ann = strict.enroll()
    strict.buy(ann, 1_052)
    refund(strict, ann, 52)
    assert strict.tier_of(ann) == "Silver"
    refund(strict, ann, 1)
    assert strict.tier_changes(ann) == [("Bronze", "Silver", "qualified"), ("Silver", "Bronze", "refund")]
    data = strict.events(ann)[-1]["data"]
    assert (data["direction"], data["qualification"]["value"], data["tier_expires_at"]) == ("downgrade", 999, None)
    strict.check(ann)


def test_a_refund_does_not_take_a_tier_that_was_earned_in_another_window(strict: Timeline) -> None:
    """The tier was earned eleven months ago by purchases that the refund does not touch, though today's window falls short."""
    ann = strict.enroll()
    strict.buy(ann, 900, at="2025-12-05T12:00Z")
    strict.buy(ann, 100)
    strict.go_to("2027-10-28T10:00Z")
    strict.buy(ann, 950)
    refund(strict, ann, 100, "2027-10-28")
    assert strict.tier_of(ann) == "Silver"


def test_a_refund_does_not_take_a_tier_that_was_given_by_hand(strict: Timeline) -> None:
    ann = strict.enroll()
    strict.buy(ann, 100)
    assign(strict, ann, "Silver")
    refund(strict, ann, 50)
    assert strict.tier_of(ann) == "Silver"


def test_a_refund_does_not_take_a_locked_tier(strict: Timeline) -> None:
    ann = strict.enroll()
    strict.buy(ann, 1_000)
    assign(strict, ann, "Silver", locked_until="2027-01-31T12:00Z")
    refund(strict, ann, 50)
    assert strict.tier_of(ann) == "Silver"


# -- how a customer stands ---------------------------------------------------------------------------------------------


def test_the_status_of_a_customer_tells_what_is_missing_to_the_next_tier(shop: Timeline) -> None:
    ann, bob = shop.enroll(), shop.enroll()
    shop.buy(ann, 1_052)
    shop.buy(bob, 6_000)
    for id_, value, following, remaining in ((ann, 1_052, "Gold", 3_948), (bob, 6_000, None, 0)):
        customer = shop.customer(id_)
        _, status = shop.commit(partial(status_of, customer=customer))
        assert status.standing.value == value
        assert (status.following and status.following.name, status.remaining) == (following, remaining)
