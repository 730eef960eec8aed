"""Refunds over HTTP: the worked examples of the specification, what receivers are told, and what is refused."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from loyalpro.events.catalog import EVENT_TYPES
from loyalpro.kernel.clock import MS_PER_DAY, SystemClock, UnixMs
from loyalpro.loyalty.earning import EarnRule, EarnSettings, ItemMatch, Rate
from loyalpro.loyalty.expiry import ExpiryPolicy
from loyalpro.loyalty.program import RefundPolicy, Rules
from support.databases import Databases
from support.history import count, query
from support.ledgers import ledger_errors
from support.programs import change_rules
from support.server import Answer, Server

TEA = {"sku": "tea", "category": "drinks", "quantity": 2, "amount": 2_000}
GIFT_CARD = {"category": "gift_card", "quantity": 1, "amount": 3_000}
CUPS = {"sku": "cups", "quantity": 4, "amount": 3_000}
BASKET = [TEA, GIFT_CARD, CUPS]
ONE_PER_EURO = EarnRule("rule_1", "1 per 1.00", {"EUR": Rate(1, 100)})
FIVE_FOR_TEA = EarnRule("rule_tea", "5 per 1.00 of tea", {"EUR": Rate(5, 100)}, match=ItemMatch(skus=("tea",)))
TEA_PAYS_MORE = EarnSettings((FIVE_FOR_TEA, ONE_PER_EURO), exclude=ItemMatch(categories=("gift_card",)))


class ShiftedClock(SystemClock):
    """The clock of the machine, some days ahead."""

    days = 0

    def now_ms(self) -> UnixMs:
        return super().now_ms() + self.days * MS_PER_DAY


@pytest.fixture(scope="module", params=("sqlite", "postgres"))
def server(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh(str(request.param)), clock=ShiftedClock()) as running:
        yield running


@pytest.fixture
def defaults(server: Server) -> Rules:
    """The default rules in force, whatever the test before has changed."""
    return change_rules(
        url(server),
        earning=EarnSettings((ONE_PER_EURO,)),
        refunds=RefundPolicy(),
        expiry=ExpiryPolicy(),
        pending_days=0,
        time_zone="UTC",
    )


@pytest.fixture
def shop(server: Server, defaults: Rules) -> "Shop":
    return Shop(server)


def url(server: Server) -> str:
    return server.application.settings.database_url.get_secret_value()


class Shop:
    """A customer with purchases and refunds."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.url = url(server)
        self.customer: str = server.post("/v1/customers", {})["id"]

    def rules(self, **changes: Any) -> None:
        change_rules(self.url, **changes)

    def later(self, days: int) -> None:
        clock = self.server.application.clock
        assert isinstance(clock, ShiftedClock)
        clock.days += days

    def buy(self, amount: int, items: Any = (), **more: Any) -> str:
        body = {"customer_id": self.customer, "amount": amount, "currency": "EUR", "items": list(items)} | more
        return str(self.server.post("/v1/transactions", body)["id"])

    def redeem(self, points: int, **more: Any) -> str:
        body = {"customer_id": self.customer, "points": points} | more
        return str(self.server.post("/v1/redemptions", body)["id"])

    def give(self, points: int, **more: Any) -> None:
        body = {"points": points, "reason_code": "gift"} | more
        self.server.post(f"/v1/customers/{self.customer}/adjustments", body)

    def try_refund(self, transaction: str, **body: Any) -> Answer:
        return self.server.call("POST", f"/v1/transactions/{transaction}/refunds", body)

    def refund(self, transaction: str, **body: Any) -> Any:
        answer = self.try_refund(transaction, **body)
        assert answer.status == 201, answer.raw
        return answer.json

    def taken(self, transaction: str, *bodies: dict[str, Any]) -> list[int]:
        """What each refund of a purchase takes."""
        return [self.refund(transaction, **body)["points_clawed_back"] for body in bodies]

    def purchase(self, transaction: str) -> Any:
        return self.server.get(f"/v1/transactions/{transaction}")

    @property
    def points(self) -> tuple[int, int, int]:
        """Available, pending and debt."""
        shown = self.server.get(f"/v1/customers/{self.customer}")["points"]
        return shown["available"], shown["pending"], shown["debt"]

    @property
    def ledger(self) -> list[Any]:
        """The entries, oldest first."""
        found: list[Any] = self.server.get(f"/v1/customers/{self.customer}/ledger?limit=100")["data"]
        return found[::-1]

    @property
    def entries(self) -> list[tuple[str, int]]:
        return [(each["type"], each["points"]) for each in self.ledger]

    def events(self, beginning: str = "") -> list[Any]:
        """The customer's events in their order, each checked against its schema."""
        found = self.server.listed(f"/v1/events?customer_id={self.customer}&limit=100")["data"]
        first = found[0]["sequence"]  # those of a deleted customer from before are erased
        assert [each["sequence"] for each in found] == list(range(first, first + len(found)))
        for each in found:
            assert EVENT_TYPES[each["type"]].read(each["data"]).data() == each["data"]
        return [each for each in found if each["type"].startswith(beginning)]

    def days(self) -> tuple[int, ...]:
        """Purchases, spend, qualifying points, refunds and refunded money of all days."""
        columns = ("purchases", "spend", "points_qualifying", "refunds", "refunded")
        sums = ", ".join(f"CAST(SUM({each}) AS BIGINT)" for each in columns)
        return query(self.url, f"SELECT {sums} FROM customer_days WHERE customer_id = ?", self.customer)[0]

    def check(self) -> None:
        assert ledger_errors(self.url, self.customer) == []
        self.events()


# -- the worked examples ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amounts", "taken"),
    [((3_333, 3_333, 3_333), [33, 33, 34]), ((1, 1, 9_997), [0, 0, 100])],
    ids=["9-thirds", "9-cents"],
)
def test_example_9_money_takes_its_part_of_the_points(shop: Shop, amounts: tuple[int, ...], taken: list[int]) -> None:
    shop.rules(earning=EarnSettings((ONE_PER_EURO,), rounding="half_up"))
    bought = shop.buy(9_999)
    assert shop.taken(bought, *({"amount": amount} for amount in amounts)) == taken
    assert (shop.points, shop.purchase(bought)["status"]) == ((0, 0, 0), "refunded")
    assert shop.days() == (0, 0, 0, 3, 9_999)
    shop.check()


def test_examples_10_and_11_a_returned_line_takes_what_it_earned(shop: Shop) -> None:
    shop.rules(earning=TEA_PAYS_MORE)
    bought = shop.buy(8_000, BASKET)
    shop.rules(earning=EarnSettings((ONE_PER_EURO,)))  # the rules of the purchase count
    tea = shop.refund(bought, items=[{"sku": "tea"}])
    assert (tea["amount"], tea["points_clawed_back"]) == (2_000, 100)
    assert tea["items"] == [{"sku": "tea", "category": "drinks", "quantity": 2, "amount": 2_000, "line": 0}]
    assert shop.points == (30, 0, 0)
    assert shop.refund(bought, amount=1_500)["points_clawed_back"] == 7
    assert shop.points == (23, 0, 0)
    shop.check()


def test_example_10_lines_that_did_not_earn_and_a_discount(shop: Shop) -> None:
    shop.rules(earning=TEA_PAYS_MORE)
    gift_card = shop.refund(shop.buy(8_000, BASKET), items=[GIFT_CARD])
    assert (gift_card["amount"], gift_card["points_clawed_back"]) == (3_000, 0)
    tea = shop.refund(shop.buy(7_200, BASKET), items=[{"line": 0, "quantity": 2}])
    assert (tea["amount"], tea["points_clawed_back"]) == (1_800, 90)
    shop.check()


@pytest.mark.parametrize(
    ("policy", "taken", "shortfall", "points"),
    [
        ("allow_negative", 100, 0, (0, 0, 80)),
        ("within_balance", 20, 80, (0, 0, 0)),
        ("only_pending", 0, 100, (20, 0, 0)),
    ],
    ids=["12", "13-within", "13-pending"],
)
def test_examples_12_and_13_a_refund_of_spent_points(
    shop: Shop, policy: Any, taken: int, shortfall: int, points: tuple[int, int, int]
) -> None:
    shop.rules(refunds=RefundPolicy(shortfall=policy))
    bought = shop.buy(10_000)
    shop.redeem(80)
    refund = shop.refund(bought)
    assert (refund["points_clawed_back"], refund["points_shortfall"], shop.points) == (taken, shortfall, points)
    if policy == "allow_negative":
        assert (shop.ledger[-1]["points"], shop.ledger[-1]["balance_after"]) == (-100, -80)
    [event] = shop.events("transaction.refunded")
    assert (event["data"]["points_clawed_back"], event["data"]["points_shortfall"]) == (taken, shortfall)
    assert [each["data"]["shortfall"] for each in shop.events("points.adjusted")] == [shortfall] * bool(taken)
    assert shop.days() == (0, 0, 0, 1, 10_000)
    shop.check()


def test_example_14_debt_is_repaid_by_what_is_earned(shop: Shop) -> None:
    bought = shop.buy(10_000)
    shop.redeem(80)
    shop.refund(bought)
    shop.buy(5_600)
    assert shop.points == (0, 0, 24)
    shop.buy(3_000)
    assert shop.points == (6, 0, 0)
    shop.check()


def test_example_15_what_expired_is_not_taken_again(shop: Shop) -> None:
    shop.rules(expiry=ExpiryPolicy("days", 5))
    bought = shop.buy(10_000)
    shop.redeem(40)
    shop.later(7)
    refund = shop.refund(bought)
    assert (refund["points_clawed_back"], refund["points_expired_before"]) == (40, 60)
    assert shop.points == (0, 0, 40)
    assert shop.entries == [("earn", 100), ("redeem", -40), ("expire", -60), ("clawback", -40)]
    assert shop.days() == (0, 0, 0, 1, 10_000)
    shop.check()


def test_what_expires_between_two_refunds_is_not_taken_again(shop: Shop) -> None:
    shop.rules(expiry=ExpiryPolicy("days", 5))
    bought = shop.buy(10_000)
    assert shop.refund(bought, amount=5_000)["points_clawed_back"] == 50
    shop.later(7)
    rest = shop.refund(bought)
    assert (rest["points_clawed_back"], rest["points_expired_before"]) == (0, 50)
    assert shop.points == (0, 0, 0)
    shop.check()


def test_example_18_points_that_paid_come_back_in_proportion(shop: Shop) -> None:
    shop.give(500)
    bought = shop.buy(8_000)
    redemption = shop.redeem(500, transaction_id=bought)
    first, second = shop.refund(bought, amount=2_000), shop.refund(bought, amount=6_000)
    assert [each["points_restored"] for each in (first, second)] == [125, 375]
    assert shop.points == (500, 0, 0)
    assert shop.server.get(f"/v1/redemptions/{redemption}")["status"] == "reversed"
    assert [(each["type"], each["data"].get("kind"), each["data"].get("points")) for each in shop.events()[-6:]] == [
        ("transaction.refunded", None, None),
        ("points.adjusted", "redemption_reversal", 125),
        ("points.adjusted", "clawback", -20),
        ("transaction.refunded", None, None),
        ("points.adjusted", "redemption_reversal", 375),
        ("points.adjusted", "clawback", -60),
    ]
    shop.check()


def test_example_19_pending_points_are_canceled(shop: Shop) -> None:
    shop.rules(pending_days=14)
    bought = shop.buy(11_200)
    shop.later(3)
    refund = shop.refund(bought, amount=5_600)
    assert (refund["points_clawed_back"], shop.points) == (56, (0, 56, 0))
    shop.later(12)
    shop.give(1)
    assert shop.points == (57, 0, 0)
    assert shop.entries == [("earn", 112), ("cancel_pending", -56), ("activate", 56), ("adjust", 1)]
    assert sum(each["data"]["points"] for each in shop.events("points.")) == 57
    assert shop.refund(bought)["points_clawed_back"] == 56
    assert shop.points == (1, 0, 0)
    shop.check()


# -- points ---------------------------------------------------------------------------------------------------------------


def test_canceled_pending_points_are_not_taken_again(shop: Shop) -> None:
    shop.rules(pending_days=14)
    bought = shop.buy(10_000)
    assert shop.refund(bought, amount=2_000)["points_clawed_back"] == 20
    [lot] = shop.server.get(f"/v1/customers/{shop.customer}/lots")["data"]
    shop.server.post(f"/v1/lots/{lot['id']}/cancel")
    shop.give(200)
    rest = shop.refund(bought)
    assert (rest["points_clawed_back"], rest["points_expired_before"], shop.points) == (0, 80, (200, 0, 0))
    assert shop.days()[2] == 0
    shop.check()


def test_the_points_of_the_purchase_are_taken_before_others(shop: Shop) -> None:
    shop.give(50, expires_at="2199-01-01T00:00:00Z")
    first = shop.buy(3_000)
    second = shop.buy(2_000)
    shop.refund(second)
    lots = shop.server.get(f"/v1/customers/{shop.customer}/lots")["data"]
    assert {each["transaction_id"]: each["remaining"] for each in lots} == {first: 30, second: 0, None: 50}
    shop.redeem(30)
    shop.refund(first)
    lots = shop.server.get(f"/v1/customers/{shop.customer}/lots")["data"]
    assert {each["transaction_id"]: each["remaining"] for each in lots} == {first: 0, second: 0, None: 20}
    shop.check()


def test_a_purchase_paid_with_points_alone_is_refunded_once_and_as_a_whole(shop: Shop) -> None:
    shop.give(500)
    bought = shop.buy(0)
    shop.redeem(500, transaction_id=bought)
    refused = shop.try_refund(bought, amount=1)
    assert (refused.status, refused.json["code"], refused.json["remaining_amount"]) == (
        422,
        "refund_exceeds_transaction",
        0,
    )
    refund = shop.refund(bought)
    assert (refund["amount"], refund["points_restored"], shop.points) == (0, 500, (500, 0, 0))
    assert shop.purchase(bought)["status"] == "refunded"
    assert shop.try_refund(bought).json["code"] == "refund_exceeds_transaction"
    assert shop.days()[:2] == (0, 0)
    shop.check()


def test_points_stay_spent_when_the_refund_says_so(shop: Shop) -> None:
    shop.give(500)
    bought = shop.buy(8_000)
    shop.redeem(500, transaction_id=bought)
    assert shop.refund(bought, amount=2_000, restore_points=False)["points_restored"] == 0
    assert shop.refund(bought, amount=2_000)["points_restored"] == 250
    assert shop.purchase(bought)["points_restored"] == 250
    shop.check()


def test_what_was_reversed_before_does_not_come_back_again(shop: Shop) -> None:
    shop.give(500)
    bought = shop.buy(8_000)
    redemption = shop.redeem(500, transaction_id=bought)
    shop.server.post(f"/v1/redemptions/{redemption}/reverse", {"points": 200})
    assert shop.refund(bought, amount=2_000)["points_restored"] == 0
    assert shop.refund(bought)["points_restored"] == 300
    shop.check()


def test_a_reservation_is_not_returned_by_a_refund(shop: Shop) -> None:
    shop.give(500)
    bought = shop.buy(8_000)
    shop.redeem(500, transaction_id=bought, reserve=True)
    assert shop.refund(bought)["points_restored"] == 0
    shop.check()


def test_returned_points_repay_debt_and_are_taken_like_others(shop: Shop) -> None:
    """Restoring comes before clawing, so that a refund leaves no debt that its own points can pay."""
    first = shop.buy(10_000)
    second = shop.buy(10_000)
    shop.redeem(200, transaction_id=second)
    refund = shop.refund(first)
    assert shop.points == (0, 0, 100)
    refund = shop.refund(second)
    assert (refund["points_restored"], refund["points_clawed_back"], shop.points) == (200, 100, (0, 0, 0))
    shop.check()


def test_a_refund_of_a_deleted_customer_moves_no_points(shop: Shop) -> None:
    bought = shop.buy(10_000, [TEA])
    assert shop.server.call("DELETE", f"/v1/customers/{shop.customer}").status == 200
    entries, lines = shop.entries, count(shop.url, "ledger_entries")
    refund = shop.refund(bought, amount=4_000, external_id=f"gone-{bought}", reason="Ada has moved")
    assert refund["reason"] is None
    assert [refund[each] for each in refund if each.startswith("points_")] == [0, 0, 0, 0]
    assert shop.try_refund(bought, items=[{"sku": "tea"}]).json["code"] == "item_not_in_transaction"
    assert (shop.entries, count(shop.url, "ledger_entries")) == (entries, lines)
    told = shop.events("transaction.refunded")
    assert [(each["data"]["customer_id"], each["data"]["customer_external_id"]) for each in told] == [
        (shop.customer, None)
    ]
    assert shop.purchase(bought)["refunded_amount"] == 4_000
    shop.refund(bought)
    assert shop.days() == (0, 0, 100, 2, 10_000)
    shop.check()


def test_a_refund_of_a_merged_customer_goes_to_the_other_one(shop: Shop) -> None:
    other = Shop(shop.server)
    bought = shop.buy(10_000)
    shop.refund(bought, amount=1_000)
    shop.redeem(60, transaction_id=bought)
    other.give(200)
    shop.server.post(f"/v1/customers/{shop.customer}/merge", {"into": other.customer})
    refund = other.refund(bought)
    assert (refund["customer_id"], refund["points_restored"], refund["points_clawed_back"]) == (other.customer, 60, 90)
    assert (other.points, other.days()) == ((200, 0, 0), (0, 0, 0, 2, 10_000))
    assert [each["data"]["customer_id"] for each in other.events("transaction.refunded")] == [other.customer]
    assert len(shop.server.get(f"/v1/transactions/{bought}/refunds")["data"]) == 2
    other.check()


def test_spend_in_another_currency_is_reduced_in_proportion(shop: Shop, defaults: Rules) -> None:
    rule = EarnRule("rule_1", "all", {"JPY": Rate(1, 100), "EUR": Rate(1, 100)})
    shop.rules(earning=replace(defaults.earning, rules=(rule,), conversion={"JPY": "0.0061"}))
    bought = shop.buy(10_000, currency="JPY")
    assert shop.days() == (1, 6_100, 100, 0, 0)
    shop.refund(bought, amount=3_333)
    assert shop.days() == (1, 6_100 - 2_033, 67, 1, 2_033)
    shop.refund(bought)
    assert shop.days() == (0, 0, 0, 2, 6_100)


def test_a_late_purchase_loses_the_points_of_its_own_day(shop: Shop) -> None:
    bought = shop.buy(10_000, occurred_at="2026-01-31T23:30:00Z")
    shop.buy(500)
    shop.refund(bought, amount=5_000)
    rows = query(
        shop.url,
        "SELECT purchases, spend, points_qualifying, refunds FROM customer_days WHERE customer_id = ? ORDER BY day",
        shop.customer,
    )
    assert rows == [(1, 5_000, 50, 1), (1, 500, 5, 0)]


# -- what receivers and callers see -------------------------------------------------------------------------------------


def test_events_say_what_the_refund_did(shop: Shop) -> None:
    bought = shop.buy(5_600, [{"sku": "A", "quantity": 2, "amount": 5_600}], external_id=f"order-{shop.customer}")
    [earned] = shop.events("points.earned")
    refund = shop.refund(bought, items=[{"sku": "A", "quantity": 1}], external_id=f"r-{bought}", reason="return")
    told, adjusted = shop.events()[-2:]
    assert told["type"] == "transaction.refunded"
    assert told["data"] == {
        "refund_id": refund["id"],
        "external_id": f"r-{bought}",
        "transaction_id": bought,
        "transaction_external_id": f"order-{shop.customer}",
        "customer_id": shop.customer,
        "customer_external_id": None,
        "amount": 2_800,
        "currency": "EUR",
        "total_refunded": 2_800,
        "remaining_amount": 2_800,
        "full": False,
        "items": [{"sku": "A", "quantity": 1, "amount": 2_800}],
        "points_clawed_back": 28,
        "points_restored": 0,
        "points_shortfall": 0,
        "points_expired_before": 0,
        "reason": "return",
        "refunded_at": refund["created_at"],
    }
    assert adjusted["type"] == "points.adjusted"
    assert adjusted["data"] == {
        "entry_id": shop.ledger[-1]["id"],
        "customer_id": shop.customer,
        "customer_external_id": None,
        "points": -28,
        "kind": "clawback",
        "reason_code": "refund",
        "note": None,
        "reverses_entry_id": earned["data"]["entry_id"],
        "transaction_id": bought,
        "refund_id": refund["id"],
        "redemption_id": None,
        "actor": shop.ledger[0]["actor"],
        "shortfall": 0,
        "counts_toward_tier": True,
        "balance": {
            "before": 56, "after": 28, "pending_before": 0, "pending": 0, "debt_before": 0, "debt": 0,
        },
    }  # fmt: skip
    assert shop.ledger[-1]["source"] == {"type": "refund", "id": refund["id"]}


def test_a_purchase_and_its_list_show_its_refunds(shop: Shop) -> None:
    bought = shop.buy(5_600)
    made = [shop.refund(bought, amount=amount) for amount in (100, 200, 300)]
    path = f"/v1/transactions/{bought}/refunds"
    first = shop.server.get(f"{path}?limit=2")
    assert first["data"] == made[:0:-1]
    rest = shop.server.get(f"{path}?limit=2&cursor={first['next_cursor']}")
    assert rest == {"data": made[:1], "next_cursor": None}
    shown = shop.purchase(bought)
    assert (shown["status"], shown["refunded_amount"], shown["points_clawed_back"]) == ("partially_refunded", 600, 6)
    assert shop.server.call("GET", "/v1/transactions/txn_01m8793cyg6mnv7ygm0gbbejqx/refunds").status == 404


def test_a_repeated_refund_is_the_one_that_is_there(shop: Shop) -> None:
    bought, key = shop.buy(5_600, [TEA]), f"again-{shop.customer}"
    made = shop.refund(bought, amount=100, external_id=key)
    again = shop.try_refund(bought, amount=100, external_id=key, reason="told later")
    assert (again.status, again.json) == (200, made)
    other = shop.buy(5_600)
    for path, body in (
        (bought, {"amount": 101}),
        (bought, {}),
        (bought, {"amount": 100, "items": [{"sku": "tea"}]}),
        (bought, {"amount": 100, "restore_points": False}),
        (other, {"amount": 100}),
    ):
        refused = shop.try_refund(path, external_id=key, **body)
        assert (refused.status, refused.json["code"], refused.json["param"]) == (409, "refund_exists", "external_id")
    assert shop.purchase(bought)["refunded_amount"] == 100
    assert len(shop.events("transaction.refunded")) == 1


def test_an_idempotency_key_refunds_once(shop: Shop) -> None:
    path = f"/v1/transactions/{shop.buy(5_600)}/refunds"
    first, again = (shop.server.post(path, {"amount": 100}, Idempotency_Key=f"k-{shop.customer}") for _ in range(2))
    assert first == again
    assert len(shop.server.get(path)["data"]) == 1


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"amount": 8_001}, "refund_exceeds_transaction", "amount"),
        ({"amount": 0}, "invalid_field", "amount"),
        ({"amount": -1}, "invalid_field", "amount"),
        ({"items": [{"sku": "coffee"}]}, "item_not_in_transaction", "items[0]"),
        ({"items": [{"sku": "tea", "quantity": 3}]}, "item_not_in_transaction", "items[0]"),
        ({"items": [{"sku": "tea"}, {"sku": "tea"}]}, "item_not_in_transaction", "items[1]"),
        ({"items": [{"quantity": 1}]}, "missing_field", "items[0].line"),
        ({"items": [{"sku": "tea", "quantity": 0}]}, "invalid_field", "items[0].quantity"),
        ({"items": [{"sku": "tea", "quantity": 0.1234}]}, "invalid_field", "items[0].quantity"),
        ({"items": [{"sku": "tea"}], "amount": 9_000}, "refund_exceeds_transaction", "amount"),
        ({"sum": 1}, "unknown_field", "sum"),
    ],
)
def test_a_wrong_refund_is_refused_and_changes_nothing(shop: Shop, body: Any, code: str, param: str) -> None:
    bought = shop.buy(8_000, BASKET)
    before = len(shop.events())
    refused = shop.try_refund(bought, **body)
    assert (refused.status, refused.json["code"], refused.json["param"]) == (422, code, param)
    if code == "refund_exceeds_transaction":
        assert refused.json["remaining_amount"] == 8_000
    assert shop.purchase(bought)["status"] == "completed"
    assert len(shop.events()) == before


def test_an_unknown_purchase_is_not_found(shop: Shop) -> None:
    for id_ in ("txn_01m8793cyg6mnv7ygm0gbbejqx", "ref_1"):
        assert shop.try_refund(id_).status == 404


def test_a_batch_does_what_its_refunds_do_one_by_one(server: Server, defaults: Rules) -> None:
    alone, together = Shop(server), Shop(server)
    state = []
    for shop in (alone, together):
        shop.rules(earning=TEA_PAYS_MORE)
        shop.give(300)
        paid, tea = shop.buy(8_000, external_id=f"paid-{shop.customer}"), shop.buy(8_000, BASKET)
        shop.redeem(200, transaction_id=paid)
        bodies: list[dict[str, Any]] = [
            {"transaction_id": tea, "items": [{"sku": "tea", "quantity": 1}], "external_id": f"1-{shop.customer}"},
            {"transaction_external_id": f"paid-{shop.customer}", "amount": 1_000},
            {"transaction_id": tea, "items": [{"sku": "tea", "quantity": 1}], "external_id": f"1-{shop.customer}"},
            {"transaction_id": tea, "amount": 7_000, "external_id": f"1-{shop.customer}"},
            {"transaction_id": tea, "amount": 7_001},
            {"transaction_id": "txn_01m8793cyg6mnv7ygm0gbbejqx"},
            {"transaction_id": tea, "amount": 1_500},
            {"transaction_id": paid},
            {"transaction_id": tea, "items": [{"sku": "tea", "quantity": 2}]},
        ]
        if shop is together:
            results = server.post("/v1/refunds/batch", {"refunds": bodies})["data"]
            assert [each["index"] for each in results] == list(range(len(bodies)))
            outcomes = [
                (each["status"], each.get("refund") or each["error"], each.get("error", {}).get("remaining_amount"))
                for each in results
            ]
        else:
            outcomes = []
            for body in bodies:
                named = {name: value for name, value in body.items() if not name.startswith("transaction_")}
                answer = shop.try_refund(body.get("transaction_id", paid), **named)
                outcomes.append((answer.status, answer.json, answer.json.get("remaining_amount")))
        told = [
            (status, seen.get("amount"), seen.get("code"), left, [seen.get(f"points_{each}") for each in ("clawed_back", "restored")])
            for status, seen, left in outcomes
        ]  # fmt: skip
        events = [(each["type"], each["data"].get("points"), each["data"].get("amount")) for each in shop.events()]
        state.append((told, events, shop.points, shop.entries, shop.days()))
        shop.check()
    assert state[0] == state[1]
    assert [each[0] for each in state[0][0]] == [201, 201, 200, 409, 422, 404, 201, 201, 422]


def test_a_member_of_a_batch_names_one_purchase(shop: Shop) -> None:
    bought = shop.buy(5_600)
    body = {"refunds": [{}, {"transaction_id": bought, "transaction_external_id": "x"}, {"transaction_id": 5}, 7]}
    results = shop.server.post("/v1/refunds/batch", body)["data"]
    assert [(each["status"], each["error"]["code"]) for each in results] == [
        (422, "missing_field"),
        (422, "invalid_field"),
        (422, "invalid_field"),
        (422, "invalid_field"),
    ]


def test_each_request_leaves_one_row_in_the_audit_log(shop: Shop) -> None:
    bought, other = shop.buy(5_600), shop.buy(5_600)
    before = count(shop.url, "audit_log")
    shop.refund(bought, amount=100, external_id=f"audit-{bought}")
    shop.try_refund(bought, amount=100, external_id=f"audit-{bought}")
    shop.try_refund(bought, amount=9_999)
    rows = shop.server.get(f"/v1/audit_log?object_id={bought}")["data"]
    assert [row["action"] for row in rows] == ["transaction.refunded", "transaction.recorded"]
    each = {"amount": 1}
    shop.server.post("/v1/refunds/batch", {"refunds": [each | {"transaction_id": id_} for id_ in (bought, other)]})
    [row] = shop.server.get("/v1/audit_log?limit=1")["data"]
    assert (row["action"], row["object_id"], row["changes"]) == ("transactions.refunded", bought, {"refunds": 2})
    assert count(shop.url, "audit_log") == before + 2


def test_refunds_at_the_same_time_never_refund_more_than_was_paid(shop: Shop) -> None:
    bought = shop.buy(5_000)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: shop.try_refund(bought, amount=1_000), range(8)))
    assert sorted(each.status for each in answers) == [201] * 5 + [422] * 3
    assert (shop.points, shop.purchase(bought)["status"]) == ((0, 0, 0), "refunded")
    shop.check()


def test_one_external_id_at_the_same_time_is_one_refund(server: Server, defaults: Rules) -> None:
    shops = [Shop(server) for _ in range(4)]
    bought = [shop.buy(5_000) for shop in shops]
    key = f"race-{shops[0].customer}"
    with ThreadPoolExecutor(4) as pool:
        answers = list(
            pool.map(lambda each: each[0].try_refund(each[1], amount=1_000, external_id=key), zip(shops, bought, strict=True))
        )  # fmt: skip
    assert sorted(each.status for each in answers) == [201, 409, 409, 409]


# -- tiers and fraud rules ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["at_review", "immediate"])
def test_a_refund_takes_the_tier_at_once_only_if_the_program_says_so(shop: Shop, policy: Any) -> None:
    shop.rules(refunds=RefundPolicy(tier=policy))
    bought = shop.buy(110_000)
    shop.refund(bought, amount=5_000)
    assert tier(shop) == "Silver"
    shop.refund(bought, amount=20_000)
    assert tier(shop) == ("Silver" if policy == "at_review" else "Bronze")
    changed = [each["data"]["reason"] for each in shop.events("customer.tier_changed")]
    assert changed == (["qualified"] if policy == "at_review" else ["qualified", "refund"])
    if policy == "immediate":
        kinds = [each["type"] for each in shop.events()[-3:]]
        assert kinds == ["transaction.refunded", "points.adjusted", "customer.tier_changed"]


def tier(shop: Shop) -> str:
    return str(shop.server.get(f"/v1/customers/{shop.customer}")["tier"]["name"])


def test_a_refund_that_leaves_a_debt_opens_a_case(shop: Shop) -> None:
    bought = shop.buy(10_000)
    shop.redeem(80)
    shop.refund(bought, amount=1_000)
    assert shop.events("fraud.detected") == []
    refund = shop.refund(bought)
    [case] = shop.events()[-1:]
    assert (case["type"], case["data"]["rule"]["code"]) == ("fraud.detected", "refund.after_redeem")
    assert case["data"]["trigger"] == {"event_id": None, "type": "transaction.refunded", "object_id": refund["id"]}


def test_held_points_count_toward_tiers_once_they_are_released(shop: Shop) -> None:
    """A refund takes held points like pending ones; what was never counted is not taken off."""
    shop.server.call("PUT", "/v1/fraud/rules/points.cap", {"action": "hold"})
    bought = shop.buy(2_000_000)
    assert shop.points == (0, 20_000, 0)
    assert shop.refund(bought, amount=500_000)["points_clawed_back"] == 5_000
    assert (shop.points, shop.days()[2]) == ((0, 15_000, 0), 0)
    [case] = [each["data"]["case_id"] for each in shop.events("fraud.detected")]
    shop.server.post(f"/v1/fraud/cases/{case}/resolve", {"resolution": "false_positive"})
    assert (shop.points, shop.days()[2]) == ((15_000, 0, 0), 15_000)
    shop.refund(bought)
    assert (shop.points, shop.days()[2]) == ((0, 0, 0), 0)
    shop.server.call("PUT", "/v1/fraud/rules/points.cap", {"action": "flag"})
    shop.check()


def test_two_servers_refund_the_same_purchases_in_any_order(databases: Databases) -> None:
    """Each locks all customers in the order of their ids, so neither waits for the other for ever."""
    database = databases.fresh("postgres")
    with Server(database, clock=ShiftedClock()) as one, Server(database, clock=ShiftedClock()) as two:
        shops = [Shop(one) for _ in range(10)]
        bought = [shop.buy(5_000) for shop in shops]
        bodies = [{"transaction_id": id_, "amount": 1_000} for id_ in bought]

        def refund(server: Server, refunds: list[Any]) -> list[int]:
            return [each["status"] for each in server.post("/v1/refunds/batch", {"refunds": refunds})["data"]]

        with ThreadPoolExecutor(8) as pool:
            rounds = [
                pool.submit(refund, one if number % 2 else two, bodies if number % 2 else bodies[::-1])
                for number in range(8)
            ]
            statuses = [status for each in rounds for status in each.result()]
        assert sorted(statuses) == [201] * 50 + [422] * 30
        for shop, id_ in zip(shops, bought, strict=True):
            assert (shop.points, shop.purchase(id_)["status"]) == ((0, 0, 0), "refunded")
            shop.check()
