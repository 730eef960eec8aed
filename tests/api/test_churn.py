"""Churn through the API: settings, runs and scores, and the events that runs send."""

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from loyalpro.events.catalog import EVENT_TYPES
from support.churn import LEAVING, REGULAR, ago, await_first_run, population, record, run, today
from support.server import Server

UNKNOWN_RUN = "job_" + "0" * 26
DEFAULTS = {
    "enabled": True,
    "horizon_days": 90,
    "thresholds": {"enter": 0.6, "high": 0.8, "exit": 0.4},
    "cooldown_days": 30,
    "min_age_days": 30,
    "min_silence_days": 14,
}


@pytest.fixture
def server(database_url: str) -> Iterator[Server]:
    with Server(database_url) as running:
        await_first_run(running)
        yield running


def risks(server: Server) -> list[Any]:
    """The events of this type, in their order, which are as their schema says."""
    found = server.listed("/v1/events?type=churn.risk&limit=100")["data"]
    for event in found:
        jsonschema.Draft202012Validator(EVENT_TYPES["churn.risk"].body_schema()).validate(event)
    return [event["data"] for event in found]


def levels(server: Server, query: str = "") -> dict[str, str]:
    """The level of each customer by external id."""
    found = server.get(f"/v1/churn/scores?limit=100{query}")["data"]
    return {each["customer_external_id"]: each["level"] for each in found}


def test_a_customer_that_falls_silent_is_announced_once_at_each_level(server: Server) -> None:
    record(server, {"regular": REGULAR, "leaving": LEAVING})
    baseline = run(server, as_of=ago(95), baseline=True)
    assert (baseline["mode"], baseline["scored"], baseline["events"]) == ("silent", 2, 0)
    assert levels(server) == {"regular": "low", "leaving": "low"}
    assert [run(server, as_of=ago(day))["events"] for day in (40, 39, 0, 0)] == [1, 0, 1, 0]
    medium, high = risks(server)
    assert [(each["previous_level"], each["risk_level"]) for each in (medium, high)] == [
        ("low", "medium"),
        ("medium", "high"),
    ]
    assert {each["customer_external_id"] for each in (medium, high)} == {"leaving"}
    assert high["score"] == round(100 / 120, 4)
    assert high["features"] == {
        "repeat_purchases": 10,
        "recency_days": 100,
        "age_days": 200,
        "days_since_last_purchase": 100,
        "typical_gap_days": 10,
    }
    assert high["value"] == {"lifetime_spend": 11_000, "currency": "EUR", "points_balance": 110}
    assert high["model"] == {"name": "recency_gap", "version": ago(0), "fitted_customers": 0, "fallback": True}
    assert (high["p_alive"], high["p_purchase_horizon"], high["horizon_days"]) == (None, None, 90)
    assert levels(server) == {"regular": "low", "leaving": "high"}
    assert levels(server, "&level=high") == {"leaving": "high"}


def test_a_purchase_sets_the_level_back_with_the_next_run(server: Server) -> None:
    ids = record(server, {"leaving": LEAVING})
    assert run(server)["events"] == 1
    server.post("/v1/transactions", {"customer_id": ids["leaving"], "amount": 1_000, "currency": "EUR"})
    assert levels(server) == {"leaving": "high"}
    assert run(server)["levels"] == {"low": 1, "medium": 0, "high": 0}
    [score] = server.get(f"/v1/churn/scores?customer_id={ids['leaving']}")["data"]
    assert score | {"scored_at": None} == {
        "customer_id": ids["leaving"],
        "customer_external_id": "leaving",
        "level": "low",
        "level_since": ago(0),
        "score": 0.0,
        "p_alive": None,
        "p_purchase_horizon": None,
        "last_purchase_on": ago(0),
        "model_version": ago(0),
        "scored_at": None,
    }


def test_a_run_as_of_an_earlier_day_only_reports(server: Server) -> None:
    record(server, {"leaving": LEAVING})
    assert run(server, baseline=True)["mode"] == "silent"
    before = server.get("/v1/churn/scores")
    report = run(server, as_of=ago(40))
    assert report["mode"] == "report"
    assert report["levels"] == {"low": 0, "medium": 1, "high": 0}
    assert report["events"] == 0
    assert server.get("/v1/churn/scores") == before
    assert risks(server) == []


def test_a_model_is_fitted_to_many_customers_and_finds_those_that_stopped(server: Server) -> None:
    names = population()
    record(server, names)
    assert run(server, as_of=ago(145), baseline=True)["scored"] == 240
    found = run(server)
    assert found["mode"] == "emit"
    model = server.get("/v1/churn/settings")["model"]
    assert (model["name"], model["version"], model["fitted_customers"]) == ("mbg_nbd", ago(0), 240)
    assert all(model["parameters"][name] > 0 for name in ("r", "alpha", "a", "b"))
    sent = risks(server)
    assert len(sent) == min(found["events"], 100)
    flagged = {name for level in ("medium", "high") for name in all_levels(server, level)}
    stopped = {name for name in names if name.startswith("stops")}
    kept = {name for name in names if name.startswith("keeps")}
    assert len(flagged & stopped) >= 55
    assert len(flagged & kept) <= 3
    assert all(each["model"]["fallback"] is False and each["p_alive"] is not None for each in sent)


def all_levels(server: Server, level: str) -> list[str]:
    """The external ids of all customers at a level, over all pages."""
    names: list[str] = []
    ids: list[str] = []
    cursor = ""
    while True:
        page = server.get(f"/v1/churn/scores?limit=7&level={level}{cursor}")
        names += [each["customer_external_id"] for each in page["data"]]
        ids += [each["customer_id"] for each in page["data"]]
        if page["next_cursor"] is None:
            assert ids == sorted(set(ids))
            return names
        cursor = f"&cursor={page['next_cursor']}"


def test_few_customers_without_a_gap_have_no_score(server: Server) -> None:
    record(server, {"once": [100]})
    assert run(server)["scored"] == 0
    assert server.get("/v1/churn/scores")["data"] == []


def test_deleted_and_merged_customers_have_no_score(server: Server) -> None:
    ids = record(server, {"regular": REGULAR, "leaving": LEAVING, "merged": LEAVING})
    run(server)
    assert server.call("DELETE", f"/v1/customers/{ids['leaving']}").status == 200
    server.post(f"/v1/customers/{ids['merged']}/merge", {"into": ids["regular"]})
    assert levels(server) == {"regular": "low"}
    stored = server.application.runner.read(
        lambda unit: unit.connection.execute("SELECT customer_id FROM churn_scores")
    )
    assert server.run(stored) == [(ids["regular"],)]


def test_settings_are_replaced_as_a_whole_and_used(server: Server) -> None:
    assert without_model(server.get("/v1/churn/settings")) == DEFAULTS
    record(server, {"leaving": LEAVING})
    changed = {"thresholds": {"enter": 0.85, "high": 0.9, "exit": 0.1}, "horizon_days": 30}
    assert without_model(put(server, changed).json) == DEFAULTS | changed
    assert run(server)["events"] == 0
    assert without_model(put(server, {"min_silence_days": 101}).json) == DEFAULTS | {"min_silence_days": 101}
    assert run(server)["events"] == 0
    put(server, {})
    assert run(server)["events"] == 1
    actions = [each["action"] for each in server.get("/v1/audit_log?limit=100")["data"]]
    assert actions.count("churn_settings.updated") == 3
    assert actions.count("churn_run.started") == 3


def test_enabling_schedules_a_run_at_once(server: Server) -> None:
    assert put(server, {"enabled": False}).json["enabled"] is False
    record(server, {"leaving": LEAVING})
    put(server, {"enabled": True})
    server.until("/v1/churn/scores", lambda found: found["data"] != [])
    assert levels(server) == {"leaving": "high"}
    assert risks(server) == []


def put(server: Server, settings: Any) -> Any:
    return server.call("PUT", "/v1/churn/settings", settings)


def without_model(settings: Any) -> Any:
    return {name: value for name, value in settings.items() if name != "model"}


@pytest.mark.parametrize(
    ("settings", "code", "param"),
    [
        ({"thresholds": {"enter": 0.3}}, "thresholds_not_ordered", "thresholds"),
        ({"thresholds": {"enter": 0.9}}, "thresholds_not_ordered", "thresholds"),
        ({"thresholds": {"high": 1.1}}, "invalid_field", "thresholds.high"),
        ({"horizon_days": 0}, "invalid_field", "horizon_days"),
        ({"horizon": 1}, "unknown_field", "horizon"),
    ],
)
def test_wrong_settings_are_refused(server: Server, settings: Any, code: str, param: str) -> None:
    answer = put(server, settings)
    assert (answer.status, answer.json["code"], answer.json["param"]) == (422, code, param)
    assert without_model(server.get("/v1/churn/settings")) == DEFAULTS


@pytest.mark.parametrize(
    ("as_of", "code"),
    [
        (ago(-2), "as_of_in_future"),
        ("yesterday", "invalid_field"),
        ("2026-02-30", "invalid_field"),
        (5, "invalid_field"),
    ],
)
def test_a_run_as_of_no_day_of_the_past_is_refused(server: Server, as_of: Any, code: str) -> None:
    answer = server.call("POST", "/v1/churn/runs", {"as_of": as_of})
    assert (answer.status, answer.json["code"], answer.json["param"]) == (422, code, "as_of")


def test_a_run_takes_no_body_and_starts_once_for_its_key(server: Server) -> None:
    first = server.post("/v1/churn/runs", Idempotency_Key="a")
    assert first["as_of"] == today().isoformat()
    assert server.post("/v1/churn/runs", Idempotency_Key="a") == first
    assert server.call("GET", f"/v1/churn/runs/{UNKNOWN_RUN}").status == 404
