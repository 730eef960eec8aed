"""Imports over the API, on both stores: what they take over, what they refuse, and what a second run changes."""

import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from loyalpro.kernel.clock import rfc3339
from loyalpro.loyalty.bulk.imports import ROWS_PER_PIECE
from loyalpro.loyalty.bulk.jobs import new_job
from loyalpro.storage.unit_of_work import UnitOfWork
from support.databases import Databases
from support.receivers import Authority
from support.server import Server


@pytest.fixture
def server(database_url: str, authority: Authority) -> Iterator[Server]:
    with Server(database_url, authority.ca_file) as running:
        yield running


def imported(server: Server, **body: object) -> dict[str, Any]:
    """The finished job of an import."""
    job = server.post("/v1/imports", body)
    return ended(server, job["id"])


def ended(server: Server, id_: str) -> dict[str, Any]:
    job: dict[str, Any] = server.until(f"/v1/imports/{id_}", lambda each: each["status"] not in ("queued", "running"))
    return job


def counts(job: dict[str, Any]) -> tuple[str, int, int, int]:
    return job["status"], job["imported"], job["unchanged"], job["refused"]


def refusals(server: Server, job: dict[str, Any]) -> list[tuple[int, str, str | None]]:
    found = server.get(f"/v1/imports/{job['id']}/refusals?limit=100")["data"]
    return [(each["line"], each["code"], each["param"]) for each in found]


def customer(server: Server, external_id: str) -> dict[str, Any]:
    [found] = server.get(f"/v1/customers?external_id={external_id}")["data"]
    return dict(found)


def events_of(server: Server, external_id: str) -> list[tuple[str, Any]]:
    path = f"/v1/events?customer_id={customer(server, external_id)['id']}&limit=100"
    return [(each["type"], each["data"]) for each in server.listed(path)["data"]]


def test_customers_of_a_csv(server: Server) -> None:
    csv = (
        "\ufeffexternal_id;email;name;metadata.shop\r\n"
        'shop-1;a@example.com;"Ada; ""Countess""";"north\r\nwing"\r\n'
        "\r\n"
        "shop-2;not an address;Bob;south\r\n"
        "shop-3;;;\r\n"
        "shop-4;too;few\r\n"
    )
    job = imported(server, kind="customers", csv=csv)
    assert counts(job) == ("done", 2, 0, 2)
    assert job["rows"] == 4
    assert refusals(server, job) == [(5, "invalid_field", "email"), (7, "invalid_row", None)]
    ada = customer(server, "shop-1")
    assert (ada["name"], ada["metadata"]) == ('Ada; "Countess"', {"shop": "north\r\nwing"})
    [(type_, data)] = events_of(server, "shop-1")
    assert (type_, data["source"]) == ("customer.created", "import")
    pieces = server.run(
        server.application.runner.read(lambda unit: unit.connection.execute("SELECT 1 FROM job_pieces"))
    )
    assert pieces == [], "the rows have personal data"


def test_a_second_run_changes_nothing(server: Server) -> None:
    people = "external_id,name\nshop-1,Ada\nshop-2,Bob\n"
    sales = "customer_external_id,external_id,amount\nshop-1,order-1,5600\nshop-2,order-2,99\n"
    balances = "customer_external_id,points,expires_at\nshop-1,40,2999-01-01T00:00:00Z\n"
    files = (("customers", people), ("transactions", sales), ("balances", balances))
    for kind, csv in files:
        job = imported(server, kind=kind, csv=csv)
        assert (job["unchanged"], job["refused"]) == (0, 0)
    before = server.listed("/v1/events?limit=100")
    for kind, csv in files:
        job = imported(server, kind=kind, csv=csv)
        assert (job["imported"], job["refused"], job["unchanged"]) == (0, 0, job["rows"])
    assert server.listed("/v1/events?limit=100") == before
    assert customer(server, "shop-1")["points"]["available"] == 96


@pytest.mark.parametrize(("earn", "points"), [("rules", 56), ("none", 0), ("given", 7)])
def test_old_purchases_earn_as_the_import_says(server: Server, earn: str, points: int) -> None:
    server.post("/v1/customers", {"external_id": "shop-1"})
    csv = "customer_external_id,external_id,amount,currency,occurred_at,points\nshop-1,o-1,5600,EUR,2026-11-01,7\n"
    mapping = {name: name for name in ("customer_external_id", "external_id", "amount", "currency", "occurred_at")}
    more: dict[str, Any] = {} if earn == "given" else {"mapping": mapping}
    assert counts(imported(server, kind="transactions", earn=earn, csv=csv, **more)) == ("done", 1, 0, 0)
    assert customer(server, "shop-1")["points"]["available"] == points
    [sale] = server.get("/v1/transactions")["data"]
    assert (sale["points_earned"], sale["occurred_at"]) == (points, "2026-11-01T00:00:00.000Z")
    told = events_of(server, "shop-1")[1:]
    assert [type_ for type_, _ in told] == ["transaction.completed", *["points.earned"] * bool(points)]
    assert {data["source"] for _, data in told} == {"import"}


def test_given_points_are_checked(server: Server) -> None:
    server.post("/v1/customers", {"external_id": "shop-1"})
    rows = [
        {"customer_external_id": "shop-1", "amount": 100, "currency": "EUR", **points}
        for points in ({}, {"points": -1}, {"points": "7"}, {"points": True}, {"points": 0.5}, {"points": 3})
    ]
    job = imported(server, kind="transactions", earn="given", rows=rows)
    assert counts(job) == ("done", 1, 0, 5)
    assert refusals(server, job) == [
        (1, "missing_field", "points"),
        *((line, "invalid_field", "points") for line in range(2, 6)),
    ]


def test_every_row_is_refused_as_the_call_for_it_alone(server: Server) -> None:
    server.post("/v1/customers", {"external_id": "shop-1"})
    server.post(
        "/v1/transactions", {"customer_external_id": "shop-1", "external_id": "o", "amount": 1, "currency": "EUR"}
    )
    rows: list[Any] = [
        {"customer_external_id": "shop-1", "amount": 100, "currency": "XXX"},
        {"customer_external_id": "nobody", "amount": 100, "currency": "EUR"},
        {"customer_external_id": "shop-1", "external_id": "o", "amount": 100, "currency": "EUR"},
        {"customer_external_id": "shop-1", "amount": -1, "currency": "EUR"},
        {"customer_external_id": "shop-1", "amount": 1, "currency": "EUR", "occurred_at": "2999-01-01T00:00:00Z"},
        {"customer_external_id": "shop-1", "amount": 1, "currency": "EUR", "lot": 1},
        {"amount": 1, "currency": "EUR"},
        "a text",
        None,
        {"a\x00b": 1},
    ]
    job = imported(server, kind="transactions", rows=rows)
    found = server.get(f"/v1/imports/{job['id']}/refusals?limit=100")["data"]
    singles = [server.call("POST", "/v1/transactions", json.dumps(row).encode()).json for row in rows[:7]]

    def told(each: Any) -> tuple[str, str, str]:
        return each["code"], re.sub(r"\d\d:\d\d:\d\d\.\d{3}", "<time>", each["detail"]), each["param"]

    assert list(map(told, found[:7])) == list(map(told, singles))
    assert [each["line"] for each in found] == list(range(1, 11))


def test_amounts_in_major_units_are_exact(server: Server) -> None:
    server.post("/v1/customers", {"external_id": "shop-1"})
    cells = ["56", "56.00", "56.5", "0.29", "56,00", "1,234.00", "56.001", "1e3", "", "٥٦"]
    csv = "customer_external_id,external_id,amount\n" + "".join(
        f'shop-1,o-{n},"{cell}"\n' for n, cell in enumerate(cells)
    )
    job = imported(server, kind="transactions", csv=csv, amounts="major")
    assert [code for _, code, _ in refusals(server, job)] == ["invalid_amount"] * 4 + [
        "missing_field",
        "invalid_amount",
    ]
    german = "customer_external_id;external_id;amount\nshop-1;g-1;56,05\n"
    assert counts(imported(server, kind="transactions", csv=german, amounts="major")) == ("done", 1, 0, 0)
    found = {each["external_id"]: each["amount"] for each in server.get("/v1/transactions")["data"]}
    assert found == {"o-0": 5600, "o-1": 5600, "o-2": 5650, "o-3": 29, "g-1": 5605}
    refused = imported(server, kind="transactions", csv="customer_external_id,amount\nshop-1,56.00\n")
    assert refusals(server, refused) == [(2, "invalid_amount", "amount")]


def test_opening_balances_keep_their_dates(server: Server) -> None:
    server.post("/v1/customers", {"external_id": "shop-1"})
    rows = [
        {"customer_external_id": "shop-1", "points": 30, "earned_at": "2026-03-01T00:00:00Z"},
        {"customer_external_id": "shop-1", "points": 12, "expires_at": "2999-01-01T00:00:00Z"},
        {"customer_external_id": "shop-1", "points": 13, "expires_at": "2999-01-01T00:00:00Z"},
        {"customer_external_id": "shop-1", "points": 13, "expires_at": "2999-01-01T00:00:00Z", "external_id": "b"},
        {"customer_external_id": "shop-1", "points": 5, "earned_at": "2019-03-01T00:00:00Z"},
        {"customer_external_id": "shop-1", "points": 5, "earned_at": "2999-03-01T00:00:00Z"},
        {"customer_external_id": "shop-1", "points": 0},
    ]
    job = imported(server, kind="balances", rows=rows)
    assert counts(job) == ("done", 4, 0, 3)
    assert refusals(server, job) == [
        (3, "balance_exists", "points"),
        (6, "invalid_field", "earned_at"),
        (7, "invalid_field", "points"),
    ]
    found = customer(server, "shop-1")
    assert found["points"]["available"] == 55
    lots = server.get(f"/v1/customers/{found['id']}/lots")["data"]
    assert [(each["original"], each["earned_at"][:10], each["expires_at"][:10]) for each in lots] == [
        (5, "2019-03-01", "2020-03-02"),
        (13, lots[1]["earned_at"][:10], "2999-01-01"),
        (12, lots[2]["earned_at"][:10], "2999-01-01"),
        (30, "2026-03-01", "2027-03-02"),
    ]
    entries = server.get(f"/v1/customers/{found['id']}/ledger")["data"]
    assert Counter(each["type"] for each in entries) == {"import": 4, "expire": 1}
    adjusted = [data for type_, data in events_of(server, "shop-1") if type_ == "points.adjusted"]
    assert {(each["kind"], each["reason_code"], each["counts_toward_tier"]) for each in adjusted} == {
        ("import", "opening_balance", False)
    }


def test_opening_balances_count_toward_tiers_when_asked(server: Server) -> None:
    server.post("/v1/customers", {"external_id": "shop-1"})
    row = {"customer_external_id": "shop-1", "points": 30, "earned_at": "2026-03-01T12:00:00Z"}
    imported(server, kind="balances", rows=[row])
    sql = "SELECT SUM(points_qualifying) FROM customer_days"
    read = server.application.runner.read
    assert server.run(read(lambda unit: unit.connection.execute(sql))) == [(None,)]
    imported(server, kind="balances", rows=[row | {"external_id": "b"}], counts_toward_tier=True)
    assert [int(each) for (each,) in server.run(read(lambda unit: unit.connection.execute(sql)))] == [30]
    assert customer(server, "shop-1")["tier"]["name"] == "Bronze"
    imported(server, kind="balances", rows=[row | {"points": 1_000, "external_id": "c"}], counts_toward_tier=True)
    assert customer(server, "shop-1")["tier"]["name"] == "Silver"
    assert events_of(server, "shop-1")[-1][0] == "customer.tier_changed"


def test_a_trial_run_refuses_the_same_rows_and_changes_nothing(server: Server) -> None:
    rows = [{"external_id": f"shop-{n}", "email": "wrong" if n % 3 == 0 else f"{n}@example.com"} for n in range(700)]
    trial = imported(server, kind="customers", rows=rows, dry_run=True)
    assert counts(trial) == ("done", 466, 0, 234)
    assert server.listed("/v1/customers")["data"] == []
    assert server.listed("/v1/events")["data"] == []
    real = imported(server, kind="customers", rows=rows)
    assert counts(real) == counts(trial)
    assert refusals(server, real) == refusals(server, trial)
    page = server.get(f"/v1/imports/{real['id']}/refusals?limit=100")
    rest = server.get(f"/v1/imports/{real['id']}/refusals?limit=100&cursor={page['next_cursor']}")
    assert [each["line"] for each in page["data"] + rest["data"]] == list(range(1, 599, 3))


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"kind": "customers"}, "invalid_field", "csv"),
        ({"kind": "customers", "csv": "a", "rows": []}, "invalid_field", "csv"),
        ({"kind": "customers", "csv": ""}, "invalid_csv", "csv"),
        ({"kind": "customers", "csv": "external_id\n"}, "empty_import", "csv"),
        ({"kind": "customers", "rows": []}, "empty_import", "rows"),
        ({"kind": "customers", "csv": 'external_id\n"open'}, "invalid_csv", "csv"),
        ({"kind": "customers", "csv": "name,name\na,b\n"}, "invalid_csv", "csv"),
        ({"kind": "customers", "csv": "externalid\na\n"}, "unknown_column", "csv"),
        ({"kind": "customers", "csv": "a\nb\n", "mapping": {"external_id": "b"}}, "unknown_column", "mapping"),
        ({"kind": "customers", "csv": "a\nb\n", "mapping": {"nme": "a"}}, "unknown_column", "mapping"),
        ({"kind": "customers", "rows": [{}], "earn": "none"}, "invalid_field", "earn"),
        ({"kind": "lots", "rows": [{}]}, "invalid_field", "kind"),
    ],
)  # fmt: skip
def test_a_request_that_cannot_be_an_import_is_refused(
    server: Server, body: dict[str, Any], code: str, param: str
) -> None:
    answer = server.call("POST", "/v1/imports", body)
    assert (answer.status, answer.json["code"], answer.json["param"]) == (422, code, param)
    assert server.get("/v1/imports")["data"] == []


def test_each_kind_needs_its_scope(server: Server) -> None:
    def key(*scopes: str) -> str:
        return str(server.post("/v1/api_keys", {"name": "k", "scopes": list(scopes)})["key"])

    for scope, kind in (("customers", "customers"), ("points", "balances")):
        body = {"kind": kind, "rows": [{}]}
        for scopes, status in ((("transactions",), 403), ((scope,), 403), ((scope, "transactions"), 202)):
            assert server.call("POST", "/v1/imports", body, key=key(*scopes)).status == status
    body = {"kind": "transactions", "rows": [{}]}
    assert server.call("POST", "/v1/imports", body, key=key("transactions")).status == 202


def test_imports_are_listed_and_of_one_account(server: Server) -> None:
    jobs = [imported(server, kind="customers", rows=[{"external_id": f"c-{n}"}]) for n in range(3)]
    first = server.get("/v1/imports?limit=2")
    second = server.get(f"/v1/imports?limit=2&cursor={first['next_cursor']}")
    assert first["data"] + second["data"] == jobs[::-1]
    export = server.post("/v1/exports", {"kind": "customers"})
    assert server.call("GET", f"/v1/imports/{export['id']}").json["code"] == "not_found"
    assert server.call("POST", f"/v1/imports/{jobs[0]['id']}/cancel").json["code"] == "job_finished"


def test_a_canceled_import_stops(server: Server, database_url: str) -> None:
    rows = [{"external_id": f"c-{n}"} for n in range(100 * ROWS_PER_PIECE)]
    job = server.post("/v1/imports", {"kind": "customers", "rows": rows})
    canceled = server.post(f"/v1/imports/{job['id']}/cancel")
    assert canceled["status"] == "canceled"
    assert canceled == server.get(f"/v1/imports/{job['id']}")
    count = "SELECT (SELECT COUNT(*) FROM customers), (SELECT COUNT(*) FROM job_pieces)"
    stored = server.run(server.application.runner.read(lambda unit: unit.connection.execute(count)))
    assert stored == [(canceled["imported"], 0)]


def test_an_import_takes_over_few_rows_in_a_transaction(server: Server) -> None:
    """On SQLite, what callers send has to wait for the transaction that is under way."""

    def pieces() -> float:
        lines = server.call("GET", "/metrics", key=None).raw.decode().splitlines()
        found = [line for line in lines if line.startswith('loyalpro_database_write_seconds_count{writer="bulk"}')]
        return float(found[0].split()[1]) if found else 0.0

    before = pieces()
    rows = [{"external_id": f"c-{n}"} for n in range(11 * ROWS_PER_PIECE + 1)]
    assert counts(imported(server, kind="customers", rows=rows)) == ("done", 551, 0, 0)
    assert pieces() - before == 12


def test_an_import_is_done_once_by_several_servers(databases: Databases, authority: Authority) -> None:
    url = databases.fresh("postgres")
    people = [{"external_id": f"c-{n}"} for n in range(40)]
    sales = [
        {"customer_external_id": f"c-{n % 40}", "external_id": f"o-{n}", "amount": 100, "currency": "EUR"}
        for n in range(2_000)
    ]
    with Server(url, authority.ca_file) as first, Server(url, authority.ca_file), Server(url, authority.ca_file):
        imported(first, kind="customers", rows=people)
        job = imported(first, kind="transactions", rows=sales)
        assert counts(job) == ("done", 2_000, 0, 0)
        assert {each["points"]["available"] for each in first.get("/v1/customers?limit=100")["data"]} == {50}


def test_an_import_goes_on_after_a_restart(database_url: str, authority: Authority) -> None:
    rows = [{"external_id": f"c-{n}"} for n in range(6_000)]
    with Server(database_url, authority.ca_file) as server:
        job = server.post("/v1/imports", {"kind": "customers", "rows": rows})
        server.until(f"/v1/imports/{job['id']}", lambda each: each["imported"] > 0)
    with Server(database_url, authority.ca_file) as server:
        assert counts(ended(server, job["id"])) == ("done", 6_000, 0, 0)


def test_the_rows_of_an_import_that_failed_are_removed(server: Server) -> None:
    """Nothing continues it, and the rows have personal data."""
    application = server.application

    def broken(unit: UnitOfWork) -> str:
        [(account,)] = unit.connection.execute("SELECT id FROM accounts")
        job = new_job(unit, str(account), "import_customers", {"kind": "customers", "dry_run": False, "earn": "rules"})
        unit.jobs.add_pieces(job.id, 0, [b"[", b'[[2,{"email":"ada@example.com"}]]'])
        return job.id

    job = ended(server, server.run(application.runner.change(broken)))
    assert job["status"] == "failed"
    assert server.run(application.runner.read(lambda unit: unit.connection.execute("SELECT 1 FROM job_pieces"))) == []


def test_an_endpoint_may_leave_out_what_imports_cause(server: Server) -> None:
    def endpoint(**more: object) -> str:
        url = f"https://127.0.0.1:1/{len(more)}"
        return str(
            server.post("/v1/webhook_endpoints", {"url": url, "events": ["*"], "status": "paused", **more})["id"]
        )

    everything, no_imports = endpoint(), endpoint(imports=False)
    imported(server, kind="customers", rows=[{"external_id": "shop-1"}])
    imported(
        server,
        kind="balances",
        rows=[{"customer_external_id": "shop-1", "points": 5, "earned_at": "2019-03-01T00:00:00Z"}],
    )
    sale = {"customer_external_id": "shop-1", "amount": 100, "currency": "EUR"}
    imported(server, kind="transactions", rows=[sale])
    server.post("/v1/transactions", sale)

    def types(endpoint_id: str) -> list[str]:
        found = server.get(f"/v1/deliveries?endpoint_id={endpoint_id}&limit=100")["data"]
        return [each["event_type"] for each in reversed(found)]

    sold = ["transaction.completed", "points.earned"]
    assert types(everything) == ["customer.created", "points.adjusted", "points.expired", *sold, *sold]
    assert types(no_imports) == sold
    assert len(events_of(server, "shop-1")) == 7
    changed = server.call("PATCH", f"/v1/webhook_endpoints/{no_imports}", {"imports": True}).json
    assert changed["imports"] is True
    refused = server.call("PATCH", f"/v1/webhook_endpoints/{no_imports}", {"imports": None}).json
    assert refused["param"] == "imports"


def test_no_replay_sends_what_imports_caused_to_an_endpoint_that_leaves_it_out(server: Server) -> None:
    def endpoint(**more: object) -> str:
        url = f"https://127.0.0.1:1/{len(more)}"
        return str(
            server.post("/v1/webhook_endpoints", {"url": url, "events": ["*"], "status": "paused", **more})["id"]
        )

    def deliveries(endpoint_id: str) -> list[tuple[str, str]]:
        found = server.get(f"/v1/deliveries?endpoint_id={endpoint_id}&limit=100")["data"]
        return [(each["event_type"], each["status"]) for each in reversed(found)]

    def replayed(endpoint_id: str, **body: object) -> int:
        path = f"/v1/webhook_endpoints/{endpoint_id}/replay"
        job = server.post(path, {"since": "2020-01-01T00:00:00Z", **body})
        done = server.until(f"{path}s/{job['id']}", lambda each: each["status"] == "done")
        return int(done["replayed"])

    had_it = endpoint()
    imported(server, kind="customers", rows=[{"external_id": "shop-1"}])
    sale = {"customer_external_id": "shop-1", "amount": 100, "currency": "EUR"}
    server.post("/v1/transactions", sale)
    for each in server.get(f"/v1/deliveries?endpoint_id={had_it}")["data"]:
        server.post(f"/v1/deliveries/{each['id']}/cancel")
    assert server.call("PATCH", f"/v1/webhook_endpoints/{had_it}", {"imports": False}).status == 200
    later = endpoint(imports=False)

    sold = ["transaction.completed", "points.earned"]
    assert replayed(had_it) == len(sold)
    assert deliveries(had_it) == [("customer.created", "canceled"), *((each, "parked") for each in sold)]
    assert replayed(later, status="missing") == len(sold)
    assert deliveries(later) == [(each, "parked") for each in sold]
    assert replayed(endpoint(), status="missing") == 3

    [created] = server.get("/v1/events?type=customer.created")["data"]
    for each in (had_it, later):
        assert server.call("PATCH", f"/v1/webhook_endpoints/{each}", {"status": "enabled"}).status == 200
    resend = f"/v1/events/{created['id']}/resend"
    assert server.call("POST", resend).json["data"] == []
    [sent] = server.call("POST", resend, {"endpoint_id": later}).json["data"]
    assert (sent["endpoint_id"], sent["status"]) == (later, "pending")


def test_points_that_were_due_before_an_import_are_not_of_the_import(server: Server) -> None:
    """The import settles the customer first: that points expire is not caused by it."""
    url = "https://127.0.0.1:1/hook"
    server.post("/v1/webhook_endpoints", {"url": url, "events": ["*"], "status": "paused", "imports": False})
    server.post("/v1/customers", {"external_id": "shop-1"})
    expires_at = server.application.clock.now_ms() + 300
    balance = {"customer_external_id": "shop-1", "points": 5, "expires_at": rfc3339(expires_at)}
    imported(server, kind="balances", rows=[balance])
    while server.application.clock.now_ms() <= expires_at:
        pass
    sale = {"customer_external_id": "shop-1", "amount": 100, "currency": "EUR"}
    imported(server, kind="transactions", rows=[sale])
    assert customer(server, "shop-1")["points"]["available"] == 1
    assert [each["event_type"] for each in server.get("/v1/deliveries")["data"]] == [
        "points.expired",
        "customer.created",
    ]


def test_imported_customers_set_off_no_fraud_rule(server: Server) -> None:
    rows = [{"external_id": f"shop-{n}", "email": "one@example.com"} for n in range(12)]
    imported(server, kind="customers", rows=rows)
    sales = [
        {"customer_external_id": "shop-1", "external_id": f"o-{n}", "amount": 5_600, "currency": "EUR"}
        for n in range(30)
    ]
    imported(server, kind="transactions", rows=sales)
    assert server.get("/v1/fraud/cases")["data"] == []
    server.post("/v1/customers", {"external_id": "shop-99", "email": "one@example.com"})
    [case] = server.get("/v1/fraud/cases")["data"]
    assert case["rule"]["code"] == "identity.shared"


def test_an_import_gives_what_the_batch_gives(database_url: str, authority: Authority) -> None:
    """Purchases of an import with `earn: rules`, and the same ones as a batch of the API."""
    rng = random.Random(7)
    sales = [
        {
            "external_id": f"o-{n}",
            "amount": rng.choice([0, 99, 100, 5_600, rng.randrange(10**6)]),
            "currency": "EUR",
            "occurred_at": f"2026-0{rng.randint(1, 9)}-1{rng.randint(0, 9)}T1{rng.randint(0, 9)}:00:00Z",
            "channel": rng.choice(["web", "pos"]),
        }
        for n in range(200)
    ]
    with Server(database_url, authority.ca_file) as server:
        for name in ("a", "b"):
            server.post("/v1/customers", {"external_id": name})
        imported(server, kind="transactions", rows=[{"customer_external_id": "a", **each} for each in sales])
        renamed = [{"customer_external_id": "b", **each, "external_id": f"b-{each['external_id']}"} for each in sales]
        server.post("/v1/transactions/batch", {"transactions": renamed})
        assert customer(server, "a")["points"] == customer(server, "b")["points"]
        ledgers = [
            [
                (each["type"], each["points"], each["balance_after"], each["occurred_at"])
                for each in all_entries(server, name)
            ]
            for name in ("a", "b")
        ]
        assert ledgers[0] == ledgers[1]


def all_entries(server: Server, external_id: str) -> list[Any]:
    found: list[Any] = []
    cursor: str | None = ""
    while cursor is not None:
        path = f"/v1/customers/{customer(server, external_id)['id']}/ledger?limit=100"
        page = server.get(path + (f"&cursor={cursor}" if cursor else ""))
        found += page["data"]
        cursor = page["next_cursor"]
    return found
