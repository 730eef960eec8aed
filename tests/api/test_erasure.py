"""Deleting a customer: the events it causes, what remains, and that no personal data can be found afterwards."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import psycopg
import pytest

from loyalpro.kernel.clock import MS_PER_DAY, SystemClock, UnixMs
from loyalpro.loyalty.ledger import Allocation, Balance, Entry, Lot, discrepancies
from loyalpro.storage.tables.customers import CustomerTables
from loyalpro.storage.tables.ledger import LedgerTables
from loyalpro.storage.tables.programs import ProgramTables
from support.customer_rows import plant_everything
from support.erasing import begin_erasure, erase_piece
from support.history import ACCOUNT, History, connect, count, query, transaction
from support.jobs import run_jobs
from support.receivers import Authority, Hit, RawServer, answer
from support.server import Server

CANARIES = tuple(
    f"canary-{word}-7f3a"
    for word in "mail name phone note item till excerpt header request tag words reason payment device".split()
)
EMAIL, NAME, PHONE, NOTE, ITEM, TILL, EXCERPT, HEADER, REQUEST, TAG, WORDS, REASON, PAYMENT, DEVICE = CANARIES
DETAILS = {"external_id": "shop-77", "email": f"{EMAIL}@example.com", "name": NAME, "phone": PHONE}


@pytest.fixture
def receiver(authority: Authority) -> Iterator[RawServer]:
    def echo(connection: Any, hit: Hit | None) -> None:
        assert hit is not None
        has_data = b"canary" in hit.body
        connection.sendall(answer(200, EXCERPT.encode() if has_data else b"", X_Echo=HEADER if has_data else "-"))

    with RawServer(echo, authority.context()) as listening:
        yield listening


@pytest.fixture
def server(database_url: str, authority: Authority) -> Iterator[Server]:
    with Server(database_url, authority.ca_file, sweep_interval=0.1) as running:
        yield running


def until(condition: Callable[[], Any]) -> Any:
    """Ask until the condition holds; the test times out if it never does."""
    pause = threading.Event()
    while not (found := condition()):
        pause.wait(0.02)
    return found


def enroll(server: Server, *, metadata_bytes: int = 10, **more: object) -> str:
    details = {**DETAILS, "metadata": {"note": NOTE * (metadata_bytes // len(NOTE) + 1)}, **more}
    customer: dict[str, str] = server.post("/v1/customers", details)
    return customer["id"]


def buy(server: Server, customer_id: str) -> None:
    items = [{"sku": ITEM, "quantity": 1, "amount": 5_600}]
    body = {"customer_id": customer_id, "amount": 5_600, "currency": "EUR", "items": items, "metadata": {"till": TILL}}
    server.post("/v1/transactions", body)


def delete(server: Server, customer_id: str) -> None:
    answered = server.call("DELETE", f"/v1/customers/{customer_id}")
    assert (answered.status, answered.json) == (200, {"id": customer_id, "deleted": True})


def wait_until_erased(server: Server, url: str) -> None:
    until(lambda: count(url, "erasures", "finished_at IS NULL") == 0)


def events(server: Server, **wanted: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.listed(
        "/v1/events?limit=100" + "".join(f"&{k}={v}" for k, v in wanted.items())
    )["data"]
    return found


# -- events, and what remains ----------------------------------------------------------------------------------------


def test_a_deletion_forfeits_the_points_and_emits_events(server: Server, receiver: RawServer) -> None:
    server.post("/v1/webhook_endpoints", {"url": receiver.url, "events": ["points.adjusted", "customer.deleted"]})
    customer = enroll(server)
    buy(server, customer)
    delete(server, customer)
    bodies = sorted((json.loads(hit.body) for hit in receiver.wait_for(2)), key=lambda body: int(body["sequence"]))
    adjusted, deleted = bodies
    assert [(body["type"], body["sequence"]) for body in bodies] == [("points.adjusted", 4), ("customer.deleted", 5)]
    assert (adjusted["data"]["points"], adjusted["data"]["reason_code"]) == (-56, "customer_deleted")
    assert adjusted["data"]["balance"] == {
        "before": 56, "after": 0, "pending_before": 0, "pending": 0, "debt_before": 0, "debt": 0,
    }  # fmt: skip
    assert deleted["data"].pop("deleted_at").endswith("Z")
    assert deleted["data"] == {
        "customer_id": customer,
        "customer_external_id": "shop-77",
        "external_id": "shop-77",
        "reason": "merchant_request",
        "erased": True,
        "points_forfeited": 56,
        "merged_into": None,
    }
    schemas = {each["type"]: each["schema"] for each in server.get("/v1/event_types")["data"]}
    for hit in receiver.wait_for(2):
        body = json.loads(hit.body)
        jsonschema.Draft202012Validator(schemas[body["type"]]).validate(body)


def test_the_deletion_of_a_customer_without_points_emits_one_event(server: Server) -> None:
    customer = enroll(server)
    delete(server, customer)
    assert [each["type"] for each in events(server)][-1] == "customer.deleted"
    assert "points.adjusted" not in [each["type"] for each in events(server)]
    assert server.get(f"/v1/customers/{customer}/ledger")["data"] == []


def test_a_deleted_customer_is_shown_as_deleted_and_refuses_commands(server: Server) -> None:
    customer = enroll(server)
    buy(server, customer)
    delete(server, customer)
    purchase = {"amount": 100, "currency": "EUR"}
    assert server.get(f"/v1/customers/{customer}") == {"id": customer, "deleted": True}
    assert server.get("/v1/customers")["data"] == []
    assert server.get("/v1/customers?external_id=shop-77")["data"] == []
    for method, path, body in (
        ("PATCH", f"/v1/customers/{customer}", {"name": "X"}),
        ("DELETE", f"/v1/customers/{customer}", None),
        ("POST", "/v1/transactions", {**purchase, "customer_id": customer}),
        ("POST", "/v1/transactions", {**purchase, "customer_external_id": "shop-77"}),
    ):
        refused = server.call(method, path, body)
        assert (refused.status, refused.json["code"]) == (404, "customer_not_found"), (method, path)
    again = enroll(server)
    assert again != customer
    assert server.get(f"/v1/customers/{again}")["external_id"] == "shop-77"


def test_a_customer_of_another_account_cannot_be_deleted(server: Server) -> None:
    customer = enroll(server)
    assert server.call("DELETE", f"/v1/customers/{customer}", key="lp_another_0123456789abcdef").status == 401
    assert server.call("DELETE", "/v1/customers/cus_00000000000000000000000000").status == 404
    assert server.call("DELETE", "/v1/customers/nonsense").status == 404
    assert server.get(f"/v1/customers/{customer}")["name"] == NAME


Ledger = tuple[Balance, list[Entry], list[Lot], list[Allocation]]


def ledger(url: str, customer_id: str) -> Ledger:
    """Balance, entries in the order of their sequences, lots and allocations."""
    with transaction(url) as connection:
        [(account_id,)] = connection.execute("SELECT account_id FROM customers WHERE id = ?", (customer_id,))
        customer = CustomerTables(connection, ProgramTables(connection)).get(account_id, customer_id)
        assert customer is not None
        tables = LedgerTables(connection)
        entries = sorted(tables.list_entries(customer_id, None, 100), key=lambda entry: entry.sequence)
        return customer.balance, entries, tables.list_lots(customer_id, None, 100), tables.list_allocations(customer_id)


def test_the_ledger_adds_up_after_points_were_forfeited(server: Server, database_url: str) -> None:
    customer = enroll(server)
    for _ in range(3):
        buy(server, customer)
    delete(server, customer)
    balance, entries, lots, allocations = ledger(database_url, customer)
    assert discrepancies(balance, entries, lots, allocations) == []
    assert (balance.available, balance.lifetime_earned) == (0, 168)
    assert [lot.remaining for lot in lots] == [0, 0, 0]
    last = entries[-1]
    assert (last.type, last.points, last.reason_code) == ("adjust", -168, "customer_deleted")
    assert query(database_url, "SELECT SUM(points), COUNT(*) FROM allocations WHERE entry_id = ?", last.id) == [
        (168, 3)
    ]


def adjust(server: Server, customer_id: str, points: int, **more: object) -> None:
    allowed = {"allow_negative": True} if points < 0 else {}
    body = {"points": points, "reason_code": "test", **allowed, **more}
    server.post(f"/v1/customers/{customer_id}/adjustments", body)


def set_rule(url: str, name: str, value: object) -> None:
    """Change a rule of the program."""
    [(rules,)] = query(url, "SELECT rules FROM program_versions")
    query(url, "UPDATE program_versions SET rules = ?", json.dumps(json.loads(rules) | {name: value}))


def test_a_debt_is_written_off(server: Server, database_url: str) -> None:
    customer = enroll(server)
    buy(server, customer)
    adjust(server, customer, -86)
    delete(server, customer)
    balance, entries, lots, allocations = ledger(database_url, customer)
    assert discrepancies(balance, entries, lots, allocations) == []
    written_off = next(entry for entry in entries if entry.reason_code == "customer_deleted")
    assert (written_off.points, written_off.balance_after) == (30, 0)
    assert (balance.available, balance.debt) == (0, 0)
    assert sum(entry.points for entry in entries) == 0
    assert {lot.remaining for lot in lots} == {0}
    lot = next(lot for lot in lots if lot.entry_id == written_off.id)
    assert lot.original == 30
    assert query(database_url, "SELECT points FROM allocations WHERE lot_id = ?", lot.id) == [(30,)]
    adjusted = [each for each in events(server) if each["type"] == "points.adjusted"][-1]
    assert adjusted["data"]["points"] == 30
    deleted = next(each for each in events(server) if each["type"] == "customer.deleted")
    assert deleted["data"]["points_forfeited"] == 0


@pytest.mark.parametrize(("spent", "debt", "kinds"), [(0, 0, ["manual"]), (56, 0, []), (86, 30, ["manual"])])
def test_pending_points_leave_by_an_entry_and_an_event_of_their_own(
    server: Server, database_url: str, spent: int, debt: int, kinds: list[str]
) -> None:
    customer = enroll(server)
    buy(server, customer)
    set_rule(database_url, "pending_days", 14)
    buy(server, customer)
    if spent:
        adjust(server, customer, -spent)
    balance, *_ = ledger(database_url, customer)
    assert (balance.available, balance.pending, balance.debt) == (max(0, 56 - spent), 56, debt)
    delete(server, customer)
    assert discrepancies(*ledger(database_url, customer)) == []
    balance, found, lots, _ = ledger(database_url, customer)
    assert (balance.available, balance.pending, balance.debt) == (0, 0, 0)
    assert sum(entry.points for entry in found) == 0
    canceled = next(entry for entry in found if entry.type == "cancel_pending")
    assert (canceled.points, canceled.pending_after, canceled.reason_code) == (-56, 0, "customer_deleted")
    assert sorted(lot.status for lot in lots if lot.transaction_id) == ["active", "canceled"]
    wait_until_erased(server, database_url)
    *adjusted, deleted = events(server)
    assert [each["data"]["kind"] for each in adjusted] == ["pending_canceled", *kinds]
    first = 6 + (spent > 0)
    assert [each["sequence"] for each in [*adjusted, deleted]] == list(range(first, first + 2 + len(kinds)))
    assert deleted["data"]["points_forfeited"] == max(0, 56 - spent) + 56


def test_reservations_are_canceled_before_the_points_are_forfeited(server: Server, database_url: str) -> None:
    customer = enroll(server)
    buy(server, customer)
    reserved = server.post("/v1/redemptions", {"customer_id": customer, "points": 50, "reserve": True})
    delete(server, customer)
    canceled = server.get(f"/v1/redemptions/{reserved['id']}")
    assert (canceled["status"], canceled["points_returned"]) == ("canceled", 50)
    assert discrepancies(*ledger(database_url, customer)) == []
    wait_until_erased(server, database_url)
    *adjusted, deleted = events(server)
    assert [each["data"]["kind"] for each in adjusted] == ["redemption_reversal", "manual"]
    assert [each["data"]["points"] for each in adjusted] == [50, -56]
    assert deleted["data"]["points_forfeited"] == 56


def test_what_is_derived_from_a_customer_is_removed_with_it(server: Server, database_url: str) -> None:
    customer = enroll(server, tags=["vip"])
    plant_everything(database_url, customer, "text")
    delete(server, customer)
    for table in ("customer_tags", "identity_values", "churn_scores"):
        assert count(database_url, table) == 0, table
    assert query(database_url, "SELECT tags, metadata, email_key, phone_key FROM customers") == [
        ("[]", "{}", None, None)
    ]


# -- what is erased --------------------------------------------------------------------------------------------------


def test_earlier_events_become_tombstones_that_lists_leave_out(
    server: Server, receiver: RawServer, database_url: str
) -> None:
    server.post("/v1/webhook_endpoints", {"url": receiver.url, "events": ["*"]})
    customer = enroll(server)
    buy(server, customer)
    receiver.wait_for(3)
    until(lambda: server.get("/v1/deliveries?status=pending")["data"] == [])
    first, *_ = before = events(server)
    delete(server, customer)
    wait_until_erased(server, database_url)
    assert [each["type"] for each in events(server)] == ["points.adjusted", "customer.deleted"]
    assert [each["sequence"] for each in events(server, customer_id=customer)] == [4, 5]
    assert [each["sequence"] for each in events(server, after=first["id"])] == [4, 5]
    for event in before:
        view = server.get(f"/v1/events/{event['id']}")
        erased_at = view.pop("erased_at")
        assert view == event | {"data": None}
        assert erased_at.endswith("Z")
        [delivery] = server.get(f"/v1/deliveries?event_id={event['id']}")["data"]
        assert delivery["status"] == "succeeded"
        [attempt] = server.get(f"/v1/deliveries/{delivery['id']}")["attempts"]
        assert attempt["response"] == {"status": 200, "headers": [], "body_excerpt": "", "body_truncated": False}
        assert ["X-LoyalPro-Event-Id", event["id"]] in attempt["request"]["headers"]


def test_pending_deliveries_of_erased_events_are_canceled_with_a_reason(
    server: Server, receiver: RawServer, database_url: str
) -> None:
    endpoint = server.post(
        "/v1/webhook_endpoints", {"url": receiver.url, "events": ["*"], "ordering": "customer", "status": "paused"}
    )
    customer = enroll(server)
    buy(server, customer)
    delete(server, customer)
    wait_until_erased(server, database_url)
    deliveries = server.get("/v1/deliveries")["data"]
    assert [(each["event_type"], each["status"], each["last_outcome"]) for each in deliveries] == [
        ("customer.deleted", "parked", None),
        ("points.adjusted", "parked", None),
        ("points.earned", "canceled", "erased"),
        ("transaction.completed", "canceled", "erased"),
        ("customer.created", "canceled", "erased"),
    ]
    assert query(database_url, "SELECT events, canceled FROM erasures") == [(3, 3)]
    server.call("PATCH", f"/v1/webhook_endpoints/{endpoint['id']}", {"status": "enabled"})
    hits = receiver.wait_for(2)
    assert [json.loads(hit.body)["type"] for hit in hits] == ["points.adjusted", "customer.deleted"]


def test_an_event_that_is_being_sent_is_erased_after_its_attempt(database_url: str, authority: Authority) -> None:
    arrived, let_go = threading.Event(), threading.Event()

    def slow(connection: Any, hit: Any) -> None:
        arrived.set()
        let_go.wait(30)
        connection.sendall(answer(200, EXCERPT.encode()))

    with (
        RawServer(slow, authority.context()) as receiver,
        Server(database_url, authority.ca_file, sweep_interval=0.1) as server,
    ):
        server.post("/v1/webhook_endpoints", {"url": receiver.url, "events": ["customer.created"]})
        customer = enroll(server)
        assert arrived.wait(30)
        delete(server, customer)
        until(lambda: count(database_url, "erasures") == 1)
        assert count(database_url, "events", "erased_at IS NOT NULL") == 0
        let_go.set()
        wait_until_erased(server, database_url)
        [delivery] = server.get("/v1/deliveries")["data"]
        assert delivery["status"] == "succeeded"
        assert server.get(f"/v1/deliveries/{delivery['id']}")["attempts"][0]["response"]["body_excerpt"] == ""


def everything(url: str) -> str:
    """Every row of every table, as text."""
    if url.startswith("sqlite"):
        names = query(url, "SELECT name FROM sqlite_master WHERE type = 'table'")
        rows = [row for (name,) in names for row in query(url, f"SELECT * FROM {name}")]
        return "\n".join(
            value.decode("latin-1") if isinstance(value, bytes) else str(value) for row in rows for value in row
        )
    with psycopg.connect(url) as session:
        names = session.execute(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition"
            " AND relnamespace = 'public'::regnamespace"
        ).fetchall()
        rows = [row for (name,) in names for row in session.execute(f"SELECT * FROM {name}".encode())]
    return "\n".join(
        value.decode("latin-1") if isinstance(value, bytes) else str(value) for row in rows for value in row
    )


def found(text: str | bytes) -> list[str]:
    if isinstance(text, str):
        return [canary for canary in CANARIES if canary in text]
    return [canary for canary in CANARIES if canary.encode() in text]


def test_responses_to_all_requests_of_an_attempt_are_erased(database_url: str, authority: Authority) -> None:
    def refuse(connection: Any, _: Any) -> None:
        connection.sendall(answer(401, EXCERPT.encode(), X_Echo=HEADER))

    with (
        RawServer(refuse, authority.context()) as receiver,
        Server(database_url, authority.ca_file, sweep_interval=0.1, retry_schedule="3600") as server,
    ):
        made = server.post("/v1/webhook_endpoints", {"url": receiver.url, "events": ["customer.created"]})
        server.post(f"/v1/webhook_endpoints/{made['id']}/rotate_secret")
        customer = enroll(server)
        receiver.wait_for(2)
        delivery = until(lambda: server.get("/v1/deliveries?status=pending")["data"])[0]["id"]
        until(lambda: server.get(f"/v1/deliveries/{delivery}")["attempts"])
        assert {EXCERPT, HEADER} <= set(found(everything(database_url)))
        delete(server, customer)
        wait_until_erased(server, database_url)
        [attempt] = server.get(f"/v1/deliveries/{delivery}")["attempts"]
    assert [each["outcome"] for each in attempt["requests"]] == ["http_4xx", "http_4xx"], "what was sent stays"
    assert {each["response"]["body_excerpt"] for each in attempt["requests"]} == {""}
    assert {EXCERPT, HEADER} & set(found(everything(database_url))) == set()


@pytest.mark.parametrize("metadata_bytes", [100, 15_000])
def test_no_personal_data_of_a_deleted_customer_remains(
    database_url: str, authority: Authority, receiver: RawServer, metadata_bytes: int
) -> None:
    """In a database of many customers. Stored responses of idempotency keys are removed last: a day later."""
    with Server(database_url, authority.ca_file, sweep_interval=0.1) as server:
        server.post("/v1/webhook_endpoints", {"url": receiver.url, "events": ["*"]})
        batch = [
            server.post(
                "/v1/customers", {"external_id": f"{n % 2}o{n}", "email": f"{n % 7}{n}@example.com", "name": "O"}
            )
            for n in range(150)
        ]
        body = {**DETAILS, "metadata": {"note": NOTE * (metadata_bytes // len(NOTE))}}
        customer = server.post("/v1/customers", body, Idempotency_Key="once", X_Request_Id=REQUEST)["id"]
        server.call("PATCH", f"/v1/customers/{customer}", {"name": f"{NAME} II", "tags": [TAG]})
        purchase = {"customer_id": customer, "amount": 100, "currency": "EUR"}
        server.post("/v1/transactions", purchase, X_Request_Id=REQUEST)
        buy(server, customer)
        adjust(server, customer, 5, note=WORDS)
        plant_everything(database_url, customer, REASON)
        hashes = {"payment_fingerprint": PAYMENT.encode(), "device_id": DEVICE.encode()}
        for name, value in hashes.items():
            query(database_url, f"UPDATE transactions SET {name} = ? WHERE customer_id = ?", value, customer)
        receiver.wait_for(len(batch) + 7)
        until(lambda: server.get("/v1/deliveries?status=pending")["data"] == [])
        assert found(everything(database_url)) == list(CANARIES)
        delete(server, customer)
        wait_until_erased(server, database_url)
        receiver.wait_for(len(batch) + 9)
    run_jobs(database_url, SystemClock().now_ms(), "idempotency")
    assert count(database_url, "idempotency_keys") == 1
    run_jobs(database_url, SystemClock().now_ms() + MS_PER_DAY + 1, "idempotency")
    assert found(everything(database_url)) == []
    if database_url.startswith("sqlite"):
        folder = Path(database_url.removeprefix("sqlite:///")).parent
        assert found(b"".join(path.read_bytes() for path in folder.iterdir())) == []


def test_deleting_a_customer_erases_the_past_of_those_that_were_merged_into_it(
    server: Server, database_url: str
) -> None:
    first = enroll(server, external_id="first")
    adjust(server, first, 5, note=WORDS)
    buy(server, first)
    middle, last = (server.post("/v1/customers", {"name": f"N{number}"})["id"] for number in range(2))
    server.post(f"/v1/customers/{first}/merge", {"into": middle})
    server.post(f"/v1/customers/{middle}/merge", {"into": last})
    assert {EMAIL, NAME, PHONE, NOTE, ITEM, TILL, WORDS} <= set(found(everything(database_url)))
    merged = [each for each in events(server) if each["type"] == "customer.deleted"]
    assert [each["data"]["erased"] for each in merged] == [False, False]
    assert count(database_url, "erasures") == 0
    delete(server, last)
    wait_until_erased(server, database_url)
    assert count(database_url, "erasures") == 3
    assert found(everything(database_url)) == []
    assert server.get(f"/v1/customers/{first}") == {"id": first, "deleted": True, "merged_into": last}


# -- pieces ----------------------------------------------------------------------------------------------------------


def deleted_with_many_events(url: str, now: UnixMs, number: int) -> str:
    """A customer with this number of events, and an erasure of them."""
    history = History(url, now)
    customer = history.ids.new("cus")
    body = f'{{"api_version":"2026-11-01","data":{{"email":"{EMAIL}"}}}}'.encode()
    history.events(history.endpoint(), number, at=now - MS_PER_DAY, customer_id=customer, body=lambda _: body)
    with transaction(url) as connection:
        begin_erasure(connection, ACCOUNT, customer, number, now)
    return customer


def erased(url: str) -> int:
    return count(url, "events", "erased_at IS NOT NULL")


def test_many_events_are_erased_in_pieces_that_continue_after_a_crash(database_url: str) -> None:
    now = SystemClock().now_ms()
    customer = deleted_with_many_events(database_url, now, 130)
    for expected in (50, 100):
        with transaction(database_url) as connection:  # each with a connection of its own, as after a restart
            assert erase_piece(connection, customer, now).more
        assert erased(database_url) == expected
    lost = connect(database_url)
    lost.begin()
    erase_piece(lost, customer, now)
    lost.rollback()  # a crash before the commit
    lost.close()
    assert erased(database_url) == 100
    run_jobs(database_url, now, "erasures")
    assert erased(database_url) == 130
    assert query(database_url, "SELECT events, canceled, finished_at FROM erasures") == [(130, 0, now)]
    assert EMAIL not in everything(database_url)


def test_an_erasure_continues_when_the_event_of_its_cursor_was_removed(database_url: str) -> None:
    now = SystemClock().now_ms()
    customer = deleted_with_many_events(database_url, now, 120)
    with transaction(database_url) as connection:
        erase_piece(connection, customer, now)
        [(cursor,)] = connection.execute("SELECT event_cursor FROM erasures")
        connection.execute("DELETE FROM events WHERE id = ?", (cursor,))
    run_jobs(database_url, now, "erasures")
    assert erased(database_url) == count(database_url, "events") == 119


def test_events_after_the_deletion_are_not_erased(database_url: str) -> None:
    now = SystemClock().now_ms()
    customer = deleted_with_many_events(database_url, now, 20)
    query(database_url, "UPDATE erasures SET through_sequence = 18")
    run_jobs(database_url, now, "erasures")
    rows = query(database_url, "SELECT sequence FROM events WHERE customer_id = ? AND erased_at IS NULL", customer)
    assert sorted(rows) == [(19,), (20,)]


def test_finished_erasures_are_removed_after_ninety_days(database_url: str) -> None:
    now = SystemClock().now_ms()
    deleted_with_many_events(database_url, now - 100 * MS_PER_DAY, 1)
    run_jobs(database_url, now - 91 * MS_PER_DAY, "erasures", "leftovers")
    assert count(database_url, "erasures") == 1
    run_jobs(database_url, now, "leftovers")
    assert count(database_url, "erasures") == 0


# -- what the database refuses ---------------------------------------------------------------------------------------


def test_an_event_can_be_erased_once_and_is_otherwise_frozen(database_url: str) -> None:
    now = SystemClock().now_ms()
    history = History(database_url, now)
    history.events(history.endpoint(), 1, at=now)
    change, erase = "UPDATE events SET body = ?", "UPDATE events SET body = ?, erased_at = 1"
    with pytest.raises(Exception, match="frozen"):
        query(database_url, change, b"a")
    query(database_url, erase, b"b")
    with pytest.raises(Exception, match="frozen"):
        query(database_url, erase, b"c")
    with pytest.raises(Exception, match="frozen"):
        query(database_url, "UPDATE events SET erased_at = NULL")
    assert query(database_url, "SELECT body FROM events") == [(b"b",)]


def test_only_the_note_of_a_ledger_entry_can_be_removed(server: Server, database_url: str) -> None:
    customer = enroll(server)
    adjust(server, customer, 5, note=NOTE)
    for change in ("points = 6", "note = 'other'", "note = NULL, points = 6", "note = NULL, reason_code = 'x'"):
        with pytest.raises(Exception, match="append-only"):
            query(database_url, f"UPDATE ledger_entries SET {change}")
    with pytest.raises(Exception, match="append-only"):
        query(database_url, "DELETE FROM ledger_entries")
    delete(server, customer)
    wait_until_erased(server, database_url)
    assert query(database_url, "SELECT note FROM ledger_entries WHERE sequence = 1") == [(None,)]
