"""Merging a customer into another one: what moves, what the events say, and that nothing is lost or counted twice."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from loyalpro.events.catalog import EVENT_TYPES
from loyalpro.loyalty.ledger import discrepancies
from support.customer_rows import plant, plant_everything, tables_of_customers
from support.databases import Databases
from support.history import query, transaction
from support.server import Server
from support.units import unit_on

MERGE_KINDS = {"merge_out", "merge_in"}


@dataclass
class Shop:
    """A server and its database."""

    server: Server
    url: str

    def enroll(self, **details: Any) -> str:
        return str(self.server.post("/v1/customers", details)["id"])

    def adjust(self, customer_id: str, points: int, **more: Any) -> None:
        """A customer without enough points gets a debt."""
        body = {"points": points, "reason_code": "test", **({"allow_negative": True} if points < 0 else {}), **more}
        self.server.post(f"/v1/customers/{customer_id}/adjustments", body)

    def buy(self, customer_id: str, amount: int = 5_600, **more: Any) -> dict[str, Any]:
        body = {"customer_id": customer_id, "amount": amount, "currency": "EUR", **more}
        bought: dict[str, Any] = self.server.post("/v1/transactions", body)
        return bought

    def redeem(self, customer_id: str, points: int, **more: Any) -> dict[str, Any]:
        made: dict[str, Any] = self.server.post(
            "/v1/redemptions", {"customer_id": customer_id, "points": points, **more}
        )
        return made

    def merge(self, customer_id: str, into: str) -> dict[str, Any]:
        merged: dict[str, Any] = self.server.post(f"/v1/customers/{customer_id}/merge", {"into": into})
        return merged

    def points(self, customer_id: str) -> tuple[int, int, int]:
        points = self.server.get(f"/v1/customers/{customer_id}")["points"]
        return points["available"], points["pending"], points["debt"]

    def events(self, customer_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.server.listed(f"/v1/events?customer_id={customer_id}&limit=100")["data"]
        return found

    def check(self, *customer_ids: str) -> None:
        """The ledger of each adds up, its events are numbered without a gap, and each entry has its event."""
        for customer_id in customer_ids:
            with transaction(self.url) as connection:
                unit = unit_on(connection)
                [(account_id,)] = connection.execute("SELECT account_id FROM customers WHERE id = ?", (customer_id,))
                customer = unit.customers.get(account_id, customer_id)
                assert customer is not None
                entries = sorted(unit.ledger.list_entries(customer_id, None, 1_000), key=lambda entry: entry.sequence)
                lots = unit.ledger.list_lots(customer_id, None, 1_000)
                allocations = unit.ledger.list_allocations(customer_id)
                assert discrepancies(customer.balance, entries, lots, allocations) == []
                rows = connection.execute(
                    "SELECT sequence, type, body FROM events WHERE customer_id = ? ORDER BY sequence", (customer_id,)
                )
            events = [(type_, json.loads(body)["data"]) for _, type_, body in rows]
            assert [number for number, *_ in rows] == list(range(1, customer.event_sequence + 1))
            told = [(data["entry_id"], data["points"]) for type_, data in events if type_.startswith("points.")]
            signs = {entry.id: -1 if entry.type in ("redeem", "expire") else 1 for entry in entries}
            assert told == [(e.id, e.points * signs[e.id]) for e in entries if e.type != "activate"]
            for type_, data in events:
                assert EVENT_TYPES[type_].read(data).data() == data


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def shop(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Shop]:
    url = databases.fresh(request.param)
    with Server(url) as running:
        yield Shop(running, url)


def test_example_29_points_repay_the_debt_of_the_other_customer(shop: Shop) -> None:
    a, b = shop.enroll(external_id="ex-29"), shop.enroll()
    shop.adjust(a, 30)
    shop.adjust(b, -50)
    assert shop.merge(a, b)["points"] == {"available": 0, "pending": 0, "debt": 20}
    *_, out, deleted = shop.events(a)
    _, _, into, updated = shop.events(b)
    assert (out["type"], out["data"]["kind"], out["data"]["points"]) == ("points.adjusted", "merge", -30)
    assert (into["type"], into["data"]["kind"], into["data"]["points"]) == ("points.adjusted", "merge", 30)
    assert into["data"]["balance"] == {
        "before": 0, "after": 0, "pending_before": 0, "pending": 0, "debt_before": 50, "debt": 20,
    }  # fmt: skip
    assert deleted["type"] == "customer.deleted"
    assert deleted["data"] | {"deleted_at": ""} == {
        "customer_id": a,
        "customer_external_id": "ex-29",
        "external_id": "ex-29",
        "deleted_at": "",
        "reason": "merged",
        "erased": False,
        "points_forfeited": 0,
        "merged_into": b,
    }
    assert updated["data"]["previous_attributes"] == {"external_id": None}
    entries = query(shop.url, "SELECT customer_id, type, points, source_id FROM ledger_entries WHERE source_id = ?", a)
    assert sorted(entries, key=str) == sorted([(a, "merge_out", -30, a), (b, "merge_in", 30, a)], key=str)
    shop.check(a, b)


@pytest.mark.parametrize(
    ("of_a", "of_b", "result"),
    [
        (0, 0, (0, 0, 0)),
        (30, 0, (30, 0, 0)),
        (30, 20, (50, 0, 0)),
        (-30, 20, (0, 0, 10)),
        (-20, 30, (10, 0, 0)),
        (-20, -30, (0, 0, 50)),
        (50, -50, (0, 0, 0)),
    ],
)
def test_balances_are_added_up(shop: Shop, of_a: int, of_b: int, result: tuple[int, int, int]) -> None:
    a, b = shop.enroll(), shop.enroll()
    for customer, points in ((a, of_a), (b, of_b)):
        if points:
            shop.adjust(customer, points)
    shop.merge(a, b)
    assert shop.points(b) == result
    shop.check(a, b)
    assert [each["type"] for each in shop.events(a)].count("points.adjusted") == 2 * bool(of_a)


def test_lots_move_with_their_dates_and_pending_points_stay_pending(shop: Shop) -> None:
    a, b = shop.enroll(), shop.enroll()
    bought = shop.buy(a)
    shop.buy(a, occurred_at="2026-06-01T00:00:00Z")
    shop.adjust(b, 7)
    query(
        shop.url,
        "UPDATE lots SET status = 'pending', activates_at = 99999999999999 WHERE transaction_id = ?",
        bought["id"],
    )
    query(shop.url, "UPDATE customers SET available = 56, pending = 56 WHERE id = ?", a)
    before = shop.server.get(f"/v1/customers/{a}/lots")["data"]
    merged = shop.merge(a, b)
    assert merged["points"] == {"available": 63, "pending": 56, "debt": 0}
    after = shop.server.get(f"/v1/customers/{b}/lots")["data"]
    assert [each for each in after if each in before] == before
    assert shop.server.get(f"/v1/customers/{a}/lots")["data"] == []
    parts = query(shop.url, "SELECT type, part, points FROM ledger_entries WHERE source_id = ? ORDER BY type, part", a)
    assert parts == [("merge_in", 0, 56), ("merge_in", 1, 56), ("merge_out", 0, -56), ("merge_out", 1, -56)]


def test_reservations_are_canceled_and_what_was_redeemed_can_be_reversed(shop: Shop) -> None:
    a, b = shop.enroll(), shop.enroll()
    shop.buy(a, 10_000)
    redeemed = shop.redeem(a, 40)
    reserved = shop.redeem(a, 60, reserve=True)
    assert shop.points(a) == (0, 0, 0)
    shop.merge(a, b)
    assert shop.points(b) == (60, 0, 0)
    canceled = shop.server.get(f"/v1/redemptions/{reserved['id']}")
    assert (canceled["status"], canceled["customer_id"], canceled["points_returned"]) == ("canceled", b, 60)
    shop.check(a, b)
    reversal = shop.server.post(f"/v1/redemptions/{redeemed['id']}/reverse", {"points": 15})
    assert reversal["customer_id"] == b
    assert shop.points(b) == (75, 0, 0)
    shop.check(a, b)
    totals = query(
        shop.url, "SELECT SUM(redemptions), SUM(points_redeemed) FROM customer_days WHERE customer_id = ?", b
    )
    assert [tuple(map(int, each)) for each in totals] == [(1, 25)]
    assert query(shop.url, "SELECT COUNT(*) FROM customer_days WHERE customer_id = ?", a) == [(0,)]


def test_a_new_lot_of_a_canceled_reservation_moves_as_well(shop: Shop) -> None:
    """Its points came from a lot that has expired since, so they come back in a lot of their own."""
    a, b = shop.enroll(), shop.enroll()
    shop.adjust(a, 50, expires_at="2199-01-01T00:00:00Z")
    shop.redeem(a, 50, reserve=True)
    query(shop.url, "UPDATE lots SET expires_at = 5 WHERE customer_id = ?", a)
    shop.merge(a, b)
    assert shop.points(b) == (50, 0, 0)
    shop.check(a, b)
    lots = shop.server.get(f"/v1/customers/{b}/lots")["data"]
    assert sorted(each["remaining"] for each in lots) == [0, 50]
    assert [each["remaining"] for each in shop.server.get(f"/v1/customers/{b}/lots?status=open")["data"]] == [50]


def test_purchases_days_and_their_first_and_last_time_move(shop: Shop) -> None:
    a, b = shop.enroll(), shop.enroll()
    first = shop.buy(a, occurred_at="2026-10-01T10:00:00Z")
    shop.buy(a, 1_000, occurred_at="2026-10-03T10:00:00Z")
    shop.buy(b, 2_000, occurred_at="2026-10-01T12:00:00Z")
    shop.merge(a, b)
    days = query(
        shop.url, "SELECT purchases, spend, points_qualifying FROM customer_days WHERE customer_id = ? ORDER BY day", b
    )
    assert days == [(2, 7_600, 76), (1, 1_000, 10)]
    assert shop.server.get(f"/v1/transactions/{first['id']}")["customer_id"] == b
    assert len(shop.server.get(f"/v1/transactions?customer_id={b}")["data"]) == 3
    shown = shop.server.get(f"/v1/customers/{b}")
    assert (shown["first_purchase_at"][:10], shown["last_purchase_at"][:10]) == ("2026-10-01", "2026-10-03")


@pytest.mark.parametrize(
    ("of_a", "of_b", "tier"), [(1_200, 0, "Silver"), (0, 1_200, "Silver"), (600, 600, "Silver"), (2_600, 2_600, "Gold")]
)
def test_the_higher_tier_stays_or_the_one_that_both_qualify_for(shop: Shop, of_a: int, of_b: int, tier: str) -> None:
    a, b = shop.enroll(), shop.enroll()
    for customer, points in ((a, of_a), (b, of_b)):
        if points:
            shop.buy(customer, points * 100)
    before = shop.server.get(f"/v1/customers/{b}")["tier"]
    shop.merge(a, b)
    after = shop.server.get(f"/v1/customers/{b}")["tier"]
    assert (after["name"], after["qualifying"]["value"]) == (tier, of_a + of_b)
    changes = [each["data"] for each in shop.events(b) if each["type"] == "customer.tier_changed"]
    if before["name"] != tier:
        last = changes[-1]
        assert (last["reason"], last["previous_tier"]["name"], last["tier"]["name"]) == ("merged", before["name"], tier)
        assert last["qualification"]["value"] == of_a + of_b
    assert len(changes) == (before["name"] != "Bronze") + (before["name"] != tier)
    shop.check(a, b)


def test_a_lock_of_the_higher_tier_moves_with_it(shop: Shop) -> None:
    a, b = shop.enroll(), shop.enroll()
    [(gold,)] = query(shop.url, "SELECT id FROM tiers WHERE name = 'Gold'")
    body = {"tier_id": gold, "locked_until": "2199-01-01T00:00:00Z", "reason": "founder"}
    assert shop.server.call("PUT", f"/v1/customers/{a}/tier", body).status == 200
    shop.merge(a, b)
    tier = shop.server.get(f"/v1/customers/{b}")["tier"]
    assert (tier["name"], tier["locked_until"]) == ("Gold", "2199-01-01T00:00:00.000Z")


def test_the_other_customer_takes_over_what_it_lacks(shop: Shop) -> None:
    a = shop.enroll(
        external_id="m-a", email="a@a.co", phone="+1", name="Ann", tags=["x", "y"], metadata={"k": 1, "l": 2}
    )
    b = shop.enroll(email="b@b.co", tags=["y", "z"], metadata={"k": 3})
    merged = shop.merge(a, b)
    assert (merged["external_id"], merged["email"], merged["phone"], merged["name"]) == ("m-a", "b@b.co", "+1", "Ann")
    assert (merged["tags"], merged["metadata"]) == (["y", "z", "x"], {"k": 3, "l": 2})
    updated = shop.events(b)[-1]["data"]
    assert updated["previous_attributes"] == {
        "external_id": None, "phone": None, "name": None, "tags": ["y", "z"], "metadata": {"k": 3},
    }  # fmt: skip
    columns = "external_id, email, email_key, phone, phone_key, name, tags, metadata, security_changed_at, status, merged_into_id"
    assert query(shop.url, f"SELECT {columns} FROM customers WHERE id = ?", a) == [
        (*[None] * 6, "[]", "{}", None, "merged", b)
    ]
    [(changed_at, updated_at)] = query(
        shop.url, "SELECT security_changed_at, updated_at FROM customers WHERE id = ?", b
    )
    assert changed_at == updated_at
    assert query(shop.url, "SELECT tag FROM customer_tags WHERE customer_id = ? ORDER BY tag", b) == [
        ("x",),
        ("y",),
        ("z",),
    ]
    assert query(shop.url, "SELECT tag FROM customer_tags WHERE customer_id = ?", a) == []
    assert [each["id"] for each in shop.server.get("/v1/customers?external_id=m-a")["data"]] == [b]
    shop.buy(b)


def test_a_taken_over_external_id_finds_the_other_customer_whatever_the_order_of_ids(shop: Shop) -> None:
    b = shop.enroll()
    a = shop.enroll(external_id="later")
    shop.merge(a, b)
    again = shop.server.post("/v1/transactions", {"customer_external_id": "later", "amount": 100, "currency": "EUR"})
    assert again["customer_id"] == b
    c = shop.enroll(external_id="kept")
    d = shop.enroll(external_id="freed")
    shop.merge(d, c)
    assert shop.server.get(f"/v1/customers/{c}")["external_id"] == "kept"
    shop.enroll(external_id="freed")


def test_a_block_of_either_customer_stays(shop: Shop) -> None:
    a, b = shop.enroll(), shop.enroll()
    query(shop.url, "UPDATE customers SET redeeming_blocked = 1 WHERE id = ?", a)
    query(shop.url, "UPDATE customers SET earning_blocked = 1 WHERE id = ?", b)
    merged = shop.merge(a, b)
    assert (merged["earning_blocked"], merged["redeeming_blocked"]) == (True, True)
    [told] = shop.server.listed(f"/v1/events?customer_id={b}&type=customer.updated")["data"]
    assert told["data"]["previous_attributes"] == {"redeeming_blocked": False}


def test_what_fraud_rules_and_churn_know_moves_or_goes(shop: Shop) -> None:
    a, b = shop.enroll(), shop.enroll()
    for customer, value, seen in ((a, "1", 5), (b, "1", 3), (a, "2", 7), (b, "3", 9)):
        plant(shop.url, "identity_values", customer, kind="device", hash=f"{a}-{value}".encode(), last_seen=seen)
    for campaign, customer, number in (("c1", a, 2), ("c1", b, 3), ("c2", a, 1)):
        plant(shop.url, "campaign_uses", customer, campaign_id=f"{campaign}-{a}", uses=number)
    for customer in (a, b):
        plant(shop.url, "churn_scores", customer, level="low")
    shop.merge(a, b)
    kept = query(shop.url, "SELECT hash, last_seen FROM identity_values WHERE customer_id = ? ORDER BY hash", b)
    assert [(bytes(value)[-1:], at) for value, at in kept] == [(b"1", 5), (b"2", 7), (b"3", 9)]
    counted = query(shop.url, "SELECT uses FROM campaign_uses WHERE customer_id = ? ORDER BY campaign_id", b)
    assert counted == [(5,), (1,)]
    assert query(shop.url, "SELECT customer_id FROM churn_scores WHERE customer_id IN (?, ?)", a, b) == [(b,)]


def test_no_table_but_the_ledger_and_the_events_keeps_rows_of_a_merged_customer(shop: Shop) -> None:
    a, b = shop.enroll(tags=["t"]), shop.enroll()
    shop.buy(a)
    shop.adjust(a, 5, external_id=f"adjusted-{a}")
    plant_everything(shop.url, a, "text")
    moved = tables_of_customers(shop.url) - {"ledger_entries", "events", "deliveries", "erasures", "churn_scores"}
    before = {table: rows_of(shop.url, table, a) for table in moved}
    assert min(before.values()) > 0, before
    shop.merge(a, b)
    assert {table: rows_of(shop.url, table, a) for table in moved} == dict.fromkeys(moved, 0)
    assert {table: rows_of(shop.url, table, b) for table in moved} == before


def rows_of(url: str, table: str, customer_id: str) -> int:
    [(number,)] = query(url, f"SELECT COUNT(*) FROM {table} WHERE customer_id = ?", customer_id)
    return int(number)


def test_later_refunds_take_the_points_of_the_other_customer(shop: Shop) -> None:
    a, b = shop.enroll(), shop.enroll()
    bought = shop.buy(a)
    shop.merge(a, b)
    refund = shop.server.post(f"/v1/transactions/{bought['id']}/refunds", {"amount": 2_800})
    assert refund["points_clawed_back"] == 28
    assert shop.points(b) == (28, 0, 0)
    shop.check(a, b)
    shop.server.call("DELETE", f"/v1/customers/{b}")
    rest = shop.server.post(f"/v1/transactions/{bought['id']}/refunds", {})
    assert (rest["amount"], rest["points_clawed_back"]) == (2_800, 0)
    assert query(shop.url, "SELECT available, pending, debt FROM customers WHERE id = ?", b) == [(0, 0, 0)]


# -- afterwards ------------------------------------------------------------------------------------------------------


def test_a_merged_customer_is_shown_as_gone_and_refuses_commands(shop: Shop) -> None:
    a, b, c = shop.enroll(external_id="gone-a"), shop.enroll(external_id="b"), shop.enroll(external_id="c")
    shop.merge(a, b)
    assert shop.server.get(f"/v1/customers/{a}") == {"id": a, "deleted": True, "merged_into": b}
    for method, path, body in (
        ("PATCH", f"/v1/customers/{a}", {"name": "X"}),
        ("DELETE", f"/v1/customers/{a}", None),
        ("POST", f"/v1/customers/{a}/merge", {"into": c}),
        ("POST", f"/v1/customers/{c}/merge", {"into": a}),
        ("POST", "/v1/transactions", {"customer_id": a, "amount": 1, "currency": "EUR"}),
        ("POST", "/v1/transactions", {"customer_external_id": "gone-a", "amount": 1, "currency": "EUR"}),
    ):
        refused = shop.server.call(method, path, body)
        assert (refused.status, refused.json["code"]) == (404, "customer_not_found"), (method, path)
    shop.merge(b, c)
    assert shop.server.get(f"/v1/customers/{a}") == {"id": a, "deleted": True, "merged_into": c}


@pytest.mark.parametrize(
    ("into", "status", "code", "param"),
    [
        (None, 422, "same_customer", "into"),
        ("cus_00000000000000000000000000", 404, "customer_not_found", "into"),
        ("nonsense", 404, "not_found", "into"),
    ],
)
def test_a_merge_into_no_other_customer_is_refused(
    shop: Shop, into: str | None, status: int, code: str, param: str
) -> None:
    a = shop.enroll()
    refused = shop.server.call("POST", f"/v1/customers/{a}/merge", {"into": into or a})
    assert (refused.status, refused.json["code"], refused.json["param"]) == (status, code, param)
    assert shop.server.get(f"/v1/customers/{a}")["status"] == "active"


@pytest.mark.parametrize(
    ("details", "code"),
    [({"tags": [f"a{n}" for n in range(30)]}, "too_many_tags"), ({"metadata": {"a": "x" * 10_000}}, "too_large")],
)
def test_details_that_do_not_fit_together_refuse_the_merge(shop: Shop, details: dict[str, Any], code: str) -> None:
    other = json.loads(json.dumps(details).replace('"a', '"b'))
    a, b = shop.enroll(**details), shop.enroll(**other)
    shop.adjust(a, 5)
    refused = shop.server.call("POST", f"/v1/customers/{a}/merge", {"into": b})
    assert (refused.status, refused.json["code"]) == (422, code)
    assert (shop.points(a), shop.points(b)) == ((5, 0, 0), (0, 0, 0))


def test_a_merge_leaves_an_audit_row_and_takes_effect_once(shop: Shop) -> None:
    a, b = shop.enroll(), shop.enroll()
    shop.adjust(a, 5)
    path = f"/v1/customers/{a}/merge"
    first = shop.server.call("POST", path, {"into": b}, Idempotency_Key=f"merge-{a}")
    again = shop.server.call("POST", path, {"into": b}, Idempotency_Key=f"merge-{a}")
    assert (first.status, first.raw) == (again.status, again.raw) == (200, first.raw)
    actions = [each["action"] for each in shop.server.get(f"/v1/audit_log?object_id={a}")["data"]]
    assert actions.count("customer.merged") == 1
    assert shop.points(b) == (5, 0, 0)


def test_merges_in_a_ring_at_the_same_time_lose_and_double_nothing(shop: Shop) -> None:
    """Each customer is merged into the next one, all at once: neither a deadlock nor a merge into one that is gone."""
    for _ in range(5):
        ring = [shop.enroll() for _ in range(4)]
        for customer in ring:
            shop.adjust(customer, 10)
        pairs = [(ring[n], ring[(n + 1) % 4]) for n in range(4)] + [(ring[n], ring[n - 1]) for n in range(4)]
        with ThreadPoolExecutor(len(pairs)) as pool:
            answers = list(
                pool.map(
                    lambda pair: shop.server.call("POST", f"/v1/customers/{pair[0]}/merge", {"into": pair[1]}), pairs
                )
            )
        assert {each.status for each in answers} <= {200, 404}
        merged = sum(each.status == 200 for each in answers)
        active = [each for each in ring if shop.server.get(f"/v1/customers/{each}").get("status") == "active"]
        assert len(active) == 4 - merged >= 1
        assert sum(shop.points(each)[0] for each in active) == 40
        shop.check(*ring)
