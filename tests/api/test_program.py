"""The program: versions, patches that name the wrong field, tiers that are retired, and previews that change nothing."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from loyalpro.loyalty.program import ProgramVersion
from loyalpro.loyalty.program_changes import ChangeProgram, ProgramDraft, TierDraft
from loyalpro.loyalty.program_preview import PAGE, Preview
from loyalpro.storage.unit_of_work import UnitOfWork
from support.databases import Databases
from support.server import Answer, Server


@pytest.fixture(params=["sqlite", "postgres"])
def server(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh(request.param)) as running:
        yield running


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def shared(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Server]:
    """A server whose program no test changes."""
    with Server(databases.fresh(request.param)) as running:
        yield running


def patch(server: Server, body: Any, *, dry_run: bool = False, **headers: str) -> Answer:
    return server.call("PATCH", "/v1/program" + ("?dry_run=true" if dry_run else ""), body, **headers)


def changed(server: Server, body: Any) -> Any:
    answer = patch(server, body)
    assert answer.status == 200, answer.json
    return answer.json


def retier_jobs(server: Server) -> int:
    sql = "SELECT COUNT(*) FROM jobs WHERE kind = 'retier'"
    [(count,)] = server.run(server.application.runner.read(lambda unit: unit.connection.execute(sql)))
    return int(count)


def buy(server: Server, customer_id: str, amount: int, **fields: Any) -> Any:
    return server.post("/v1/transactions", {"customer_id": customer_id, "amount": amount, "currency": "EUR", **fields})


def test_a_new_account_starts_with_the_default_program(shared: Server) -> None:
    answer = shared.call("GET", "/v1/program")
    assert answer.headers["etag"] == '"1"'
    program = answer.json
    assert (program["version"], program["currency"], program["time_zone"]) == (1, "EUR", "UTC")
    [rule] = program["earning"]["rules"]
    assert rule["rates"] == {"EUR": {"points": 1, "per_amount": 100}}
    assert program["expiry"] == {"kind": "months", "n": 12, "until": "day", "month_day": None}
    assert program["pending"] == {"days": 0}
    assert program["refunds"] == {"shortfall": "allow_negative", "restore_expired": "extend", "tier": "at_review"}
    assert [(tier["name"], tier["rank"], tier["threshold"]) for tier in program["tiers"]] == [
        ("Bronze", 1, 0),
        ("Silver", 2, 1_000),
        ("Gold", 3, 5_000),
    ]
    assert program["tiering"]["window"] == {
        "kind": "rolling", "n": 12, "unit": "months", "period": "year", "starts_month": 1,
    }  # fmt: skip


def test_a_patch_makes_the_next_version_and_keeps_the_rest(server: Server) -> None:
    before = server.get("/v1/program")
    answer = patch(server, {"earning": {"rounding": "half_up"}, "expiry": {"n": 24}, "note": "kinder"})
    assert (answer.status, answer.headers["etag"]) == (200, '"2"')
    after = answer.json
    assert (after["version"], after["note"]) == (2, "kinder")
    assert after["actor"].startswith("key:")
    assert after["earning"] == before["earning"] | {"rounding": "half_up"}
    assert after["expiry"] == before["expiry"] | {"n": 24}
    assert after["tiers"] == before["tiers"]
    assert server.get("/v1/program") == after
    assert server.get("/v1/program/versions/2") == after
    assert server.get("/v1/program/versions/1") == before
    [audited] = [each for each in server.get("/v1/audit_log")["data"] if each["action"] == "program.changed"]
    assert audited["actor"] == after["actor"]


def test_a_whole_program_can_be_sent_back(server: Server) -> None:
    program = server.get("/v1/program")
    shown = {name: value for name, value in program.items() if name not in ("version", "actor", "created_at")}
    assert changed(server, shown) == program


def test_a_patch_that_changes_nothing_makes_no_version(server: Server) -> None:
    for body in ({}, {"currency": "EUR"}, {"earning": {"rounding": "floor"}}, {"expiry": None}):
        assert changed(server, body)["version"] == 1
    assert [each["version"] for each in server.get("/v1/program/versions")["data"]] == [1]
    assert retier_jobs(server) == 0


def test_null_sets_the_default(server: Server) -> None:
    changed(server, {"earning": {"min_spend": 500, "tax": "excluded"}, "point_value": "0.01", "pending": {"days": 14}})
    after = changed(server, {"earning": {"min_spend": None, "tax": None}, "point_value": None, "pending": None})
    assert (after["earning"]["min_spend"], after["earning"]["tax"]) == (None, "included")
    assert (after["point_value"], after["pending"]) == (None, {"days": 0})


def test_versions_are_listed_newest_first_in_pages(server: Server) -> None:
    for days in (1, 2, 3):
        changed(server, {"pending": {"days": days}, "note": f"{days} days"})
    first = server.get("/v1/program/versions?limit=3")
    assert [each["version"] for each in first["data"]] == [4, 3, 2]
    assert [each["note"] for each in first["data"]] == ["3 days", "2 days", "1 days"]
    rest = server.get(f"/v1/program/versions?limit=3&cursor={first['next_cursor']}")
    assert ([each["version"] for each in rest["data"]], rest["next_cursor"]) == ([1], None)
    for version in ("0", "9", "x", "-1", "9" * 30):
        assert server.call("GET", f"/v1/program/versions/{version}").status == 404


@pytest.mark.parametrize(
    ("if_match", "status"),
    [('"1"', 200), ('"1", "7"', 200), ("*", 200), ('W/"1"', 200), ('"2"', 412), ("1", 412), ('""', 412)],
)
def test_if_match_names_the_version_that_is_changed(server: Server, if_match: str, status: int) -> None:
    answer = patch(server, {"pending": {"days": 3}}, If_Match=if_match)
    assert answer.status == status
    if status == 412:
        assert (answer.json["code"], answer.json["param"]) == ("precondition_failed", "If-Match")
        assert server.get("/v1/program")["version"] == 1


TIER = {"name": "Bronze", "threshold": 0}
RULE = {"name": "r", "rates": {"EUR": {"points": 1, "per_amount": 100}}}
WRONG: list[tuple[Any, str, str]] = [
    ({"surprise": 1}, "surprise", "unknown_field"),
    ({"version": 1}, "version", "unknown_field"),
    ({"currency": None}, "currency", "missing_field"),
    ({"currency": "XXQ"}, "currency", "unknown_currency"),
    ({"time_zone": "Europe/Berlim"}, "time_zone", "unknown_time_zone"),
    ({"time_zone": "../UTC"}, "time_zone", "unknown_time_zone"),
    ({"time_zone": "localtime"}, "time_zone", "unknown_time_zone"),
    ({"earning": {"rounding": "up"}}, "earning.rounding", "invalid_field"),
    ({"earning": {"surprise": 1}}, "earning.surprise", "unknown_field"),
    ({"earning": {"rules": []}}, "earning.rules", "invalid_field"),
    ({"earning": {"rules": None}}, "earning.rules", "missing_field"),
    ({"earning": {"rules": [{"name": "r"}]}}, "earning.rules[0].rates", "invalid_field"),
    ({"earning": {"rules": [RULE | {"points_per_item": 5}]}}, "earning.rules[0].rates", "invalid_field"),
    ({"earning": {"rules": [RULE | {"id": "rule_gone"}]}}, "earning.rules[0].id", "unknown_rule"),
    ({"earning": {"rules": [RULE | {"match": {}}]}}, "earning.rules[0].match", "invalid_field"),
    (
        {"earning": {"rules": [RULE | {"rates": {"EUR": {"points": 0, "per_amount": 100}}}]}},
        "earning.rules[0].rates.EUR.points",
        "invalid_field",
    ),
    (
        {"earning": {"rules": [RULE, RULE | {"rates": {"EURO": {"points": 1, "per_amount": 1}}}]}},
        "earning.rules[1].rates.EURO",
        "unknown_currency",
    ),
    ({"earning": {"rules": [{"name": "r", "points_per_item": 5}]}}, "earning.rules", "invalid_field"),
    ({"earning": {"conversion": {"JPY": 0.0061}}}, "earning.conversion.JPY", "invalid_field"),
    ({"earning": {"conversion": {"JPY": "0.00"}}}, "earning.conversion.JPY", "invalid_field"),
    ({"earning": {"conversion": {"JPY": "1e999999999"}}}, "earning.conversion.JPY", "invalid_field"),
    ({"earning": {"conversion": {"EUR": "1"}}}, "earning.conversion.EUR", "invalid_field"),
    ({"earning": {"min_spend": 0}}, "earning.min_spend", "invalid_field"),
    ({"expiry": {"kind": "date"}}, "expiry.month_day", "invalid_field"),
    ({"expiry": {"kind": "date", "month_day": "02-30"}}, "expiry.month_day", "invalid_field"),
    ({"expiry": {"kind": "date", "month_day": "13-01"}}, "expiry.month_day", "invalid_field"),
    ({"expiry": {"month_day": "12-31"}}, "expiry.month_day", "invalid_field"),
    ({"expiry": {"n": 0}}, "expiry.n", "invalid_field"),
    ({"pending": {"days": -1}}, "pending.days", "invalid_field"),
    ({"point_value": "one"}, "point_value", "invalid_field"),
    ({"tiers": []}, "tiers", "invalid_field"),
    ({"tiers": [TIER | {"threshold": 1}]}, "tiers", "invalid_field"),
    ({"tiers": [TIER, TIER | {"name": "Other"}]}, "tiers", "invalid_field"),
    ({"tiers": [TIER, TIER | {"threshold": 5}]}, "tiers", "invalid_field"),
    ({"tiers": [TIER | {"id": "tier_gone"}]}, "tiers[0].id", "unknown_tier"),
    ({"tiers": [TIER | {"multiplier_permille": 1.5}]}, "tiers[0].multiplier_permille", "invalid_field"),
    ({"tiering": {"window": {"kind": "forever"}}}, "tiering.window.kind", "invalid_field"),
    ({"refunds": {"shortfall": "maybe"}}, "refunds.shortfall", "invalid_field"),
]


@pytest.mark.parametrize(("body", "param", "code"), WRONG, ids=[str(each[0])[:50] for each in WRONG])
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_wrong_field_is_named_and_nothing_changes(
    shared: Server, body: Any, param: str, code: str, *, dry_run: bool
) -> None:
    answer = patch(shared, body, dry_run=dry_run)
    assert (answer.status, answer.json["param"], answer.json["code"]) == (422, param, code), answer.json
    assert shared.get("/v1/program")["version"] == 1


def test_rules_keep_their_ids_and_new_ones_get_one(server: Server) -> None:
    [known] = server.get("/v1/program")["earning"]["rules"]
    after = changed(server, {"earning": {"rules": [known, RULE | {"match": {"skus": ["tea"]}}]}})
    ids = [rule["id"] for rule in after["earning"]["rules"]]
    assert ids[0] == known["id"]
    assert ids[1].startswith("rule_")
    twice = patch(server, {"earning": {"rules": [known, known]}})
    assert (twice.status, twice.json["param"]) == (422, "earning.rules[1].id")


def test_tiers_are_added_changed_and_retired(server: Server) -> None:
    customer = server.post("/v1/customers", {})
    bronze, silver, gold = server.get("/v1/program")["tiers"]
    benefit = {"code": "free_shipping", "text": "Free shipping"}
    after = changed(
        server,
        {
            "tiers": [
                gold | {"benefits": [benefit], "multiplier_permille": 1_500},
                silver | {"threshold": 2_000},
                {"name": "Basic", "threshold": 0},
            ]
        },
    )
    basic, changed_silver, changed_gold = after["tiers"]
    assert [(tier["name"], tier["rank"], tier["threshold"]) for tier in after["tiers"]] == [
        ("Basic", 1, 0),
        ("Silver", 2, 2_000),
        ("Gold", 3, 5_000),
    ]
    assert (changed_silver["id"], changed_gold["id"]) == (silver["id"], gold["id"])
    assert (changed_gold["benefits"], changed_gold["multiplier_permille"]) == ([benefit], 1_500)
    assert server.get(f"/v1/customers/{customer['id']}")["tier"]["id"] in (bronze["id"], basic["id"])
    assert server.get("/v1/program/versions/1")["tiers"] == [bronze, silver, gold]
    gone = patch(server, {"tiers": [basic, bronze | {"threshold": 9}]})
    assert (gone.json["code"], gone.json["param"]) == ("unknown_tier", "tiers[1].id")


def test_customers_are_moved_only_after_a_change_that_may_move_them(server: Server) -> None:
    tiers = server.get("/v1/program")["tiers"]
    changed(server, {"tiers": [tier | {"name": tier["name"].upper()} for tier in tiers]})
    changed(server, {"tiers": [tier | {"multiplier_permille": 2_000} for tier in tiers]})
    changed(server, {"earning": {"rounding": "ceil"}})
    assert retier_jobs(server) == 0
    changed(server, {"tiers": [tiers[0], tiers[1] | {"threshold": 900}, tiers[2]]})
    assert retier_jobs(server) == 1
    changed(server, {"tiering": {"metric": "spend"}})
    assert retier_jobs(server) == 2


def test_currency_and_time_zone_stay_after_the_first_purchase(server: Server) -> None:
    dollars = {"rates": {"USD": {"points": 1, "per_amount": 100}}, "name": "1 per 1.00 USD"}
    after = changed(server, {"currency": "USD", "time_zone": "America/New_York", "earning": {"rules": [dollars]}})
    assert (after["currency"], after["time_zone"]) == ("USD", "America/New_York")
    customer = server.post("/v1/customers", {})
    server.post("/v1/transactions", {"customer_id": customer["id"], "amount": 500, "currency": "USD"})
    for body, param in (
        ({"currency": "EUR", "earning": {"rules": [RULE]}}, "currency"),
        ({"time_zone": "UTC"}, "time_zone"),
    ):
        refused = patch(server, body)
        assert (refused.status, refused.json["code"], refused.json["param"]) == (409, "program_in_use", param)
    assert changed(server, {"pending": {"days": 1}})["version"] == 3


def test_a_purchase_is_priced_by_the_version_in_force(server: Server) -> None:
    customer = server.post("/v1/customers", {})
    [rule] = server.get("/v1/program")["earning"]["rules"]
    assert buy(server, customer["id"], 1_000)["points_earned"] == 10
    changed(server, {"earning": {"rules": [rule | {"rates": {"EUR": {"points": 3, "per_amount": 100}}}]}})
    assert buy(server, customer["id"], 1_000)["points_earned"] == 30


def test_only_the_scope_program_changes_the_program(server: Server) -> None:
    reader = server.post("/v1/api_keys", {"name": "reader", "scopes": ["read", "transactions"]})["key"]
    assert server.call("GET", "/v1/program", key=reader).status == 200
    refused = server.call("PATCH", "/v1/program", {"pending": {"days": 1}}, key=reader)
    assert (refused.status, refused.json["code"]) == (403, "insufficient_scope")


def test_a_preview_prices_recent_purchases_again_and_changes_nothing(server: Server) -> None:
    heavy, light = (server.post("/v1/customers", {})["id"] for _ in range(2))
    buy(server, heavy, 60_000)
    buy(server, light, 5_050)
    buy(server, light, 99_999, occurred_at="2025-01-01T00:00:00Z")
    [rule] = server.get("/v1/program")["earning"]["rules"]
    double = {"earning": {"rules": [rule | {"rates": {"EUR": {"points": 2, "per_amount": 100}}}]}}
    answer = patch(server, double, dry_run=True)
    assert answer.status == 200, answer.json
    assert answer.json["dry_run"] is True
    assert answer.json["program"]["earning"]["rules"][0]["rates"]["EUR"]["points"] == 2
    effect = answer.json["effect"]
    assert effect.pop("since") < server.get(f"/v1/customers/{light}")["created_at"]
    assert effect == {
        "purchases": 2,
        "is_truncated": False,
        "points_before": 650,
        "points_after": 1_301,
        "customers": 2,
        "customers_up": 1,
        "customers_down": 0,
        "moved_to": [{"tier": "Silver", "customers": 1}],
    }
    assert server.get("/v1/program")["version"] == 1
    assert retier_jobs(server) == 0


def test_a_preview_tells_who_would_lose_a_tier(server: Server) -> None:
    customer = server.post("/v1/customers", {})["id"]
    buy(server, customer, 120_000)
    bronze, silver, gold = server.get("/v1/program")["tiers"]
    for tiers, up, down, to in (
        ([bronze, silver | {"threshold": 1_201}, gold], 0, 1, "Bronze"),
        ([bronze, silver, gold | {"threshold": 1_200}], 1, 0, "Gold"),
        ([bronze, gold], 0, 1, "Bronze"),
        ([bronze, silver, {"name": "Between", "threshold": 1_100}, gold], 1, 0, "Between"),
        ([bronze, silver | {"threshold": 1_200}, gold], 0, 0, None),
    ):
        effect = patch(server, {"tiers": tiers}, dry_run=True).json["effect"]
        assert (effect["customers_up"], effect["customers_down"]) == (up, down), tiers
        assert effect["moved_to"] == ([] if to is None else [{"tier": to, "customers": 1}]), tiers


def test_a_preview_reads_many_purchases_in_pages(server: Server) -> None:
    buyers = [server.post("/v1/customers", {})["id"] for _ in range(3)]
    bodies = [{"customer_id": buyers[number % 3], "amount": 150, "currency": "EUR"} for number in range(PAGE + 1)]
    server.post("/v1/transactions/batch", {"transactions": bodies})
    patch_body = {"earning": {"rounding": "ceil", "max_points_per_day": 200}}
    effect = patch(server, patch_body, dry_run=True).json["effect"]
    assert (effect["purchases"], effect["points_before"], effect["points_after"]) == (PAGE + 1, PAGE + 1, 600)
    assert effect["is_truncated"] is False
    assert truncated_preview(server).effect.purchases == PAGE
    assert truncated_preview(server).effect.is_truncated


def truncated_preview(server: Server) -> Preview:
    """A preview that prices one page."""
    read = server.application.runner.read

    def begin(unit: UnitOfWork) -> Preview:
        [(account_id,)] = unit.connection.execute("SELECT id FROM accounts")
        return Preview(unit, ChangeProgram(account_id, as_it_is), most=1)

    preview = server.run(read(begin))
    while server.run(read(preview.step)):
        pass
    return preview


def as_it_is(version: ProgramVersion) -> ProgramDraft:
    tiers = [TierDraft(each.id, each.name, each.threshold, each.multiplier_permille, ()) for each in version.tiers]
    return ProgramDraft(version.rules, tuple(tiers), None)


def test_of_two_changes_of_one_version_one_is_made(server: Server) -> None:
    with ThreadPoolExecutor(4) as tills:
        days = range(1, 9)
        answers = list(tills.map(lambda n: patch(server, {"pending": {"days": n}}, If_Match='"1"').status, days))
    assert sorted(answers) == [200] + [412] * 7
    assert server.get("/v1/program")["version"] == 2


def test_changes_at_once_make_a_version_each(server: Server) -> None:
    with ThreadPoolExecutor(4) as tills:
        days = range(1, 9)
        made = list(tills.map(lambda n: changed(server, {"pending": {"days": n}})["version"], days))
    assert sorted(made) == list(range(2, 10))


def test_a_preview_of_an_empty_account_has_nothing_to_price(shared: Server) -> None:
    effect = patch(shared, {"earning": {"rounding": "ceil"}}, dry_run=True).json["effect"]
    assert (effect["purchases"], effect["points_before"], effect["points_after"]) == (0, 0, 0)
