"""Program > Fraud cases, through forms: the queue, one case and how it ends, and the rules with a trial on the past."""

import html
import re
from collections.abc import Iterator

import pytest

from support.browser import Browser
from support.databases import Databases
from support.members import new_member
from support.server import Server


@pytest.fixture(params=("sqlite",))
def server(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh(request.param)) as running:
        yield running


@pytest.fixture
def support(server: Server) -> Browser:
    return new_member(server, "support").browser


def shown(browser: Browser) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", browser.text)).split())


def suspect(server: Server, name: str = "Ada Brandt", purchases: int = 6, **rule: object) -> tuple[str, str]:
    """The ids of a customer with many purchases, and of the case that they open."""
    if rule:
        assert server.call("PUT", "/v1/fraud/rules/velocity.earn", rule).status == 200
    customer = server.post("/v1/customers", {"name": name})["id"]
    for number in range(purchases):
        body = {"customer_id": customer, "amount": 1_000, "currency": "EUR", "external_id": f"{customer}-{number}"}
        server.post("/v1/transactions", body)
    [case] = server.get(f"/v1/fraud/cases?customer_id={customer}")["data"]
    return str(customer), str(case["id"])


def test_the_queue_says_what_was_measured_and_accuses_nobody(server: Server, support: Browser) -> None:
    support.open("/fraud")
    assert "No open case" in support.text
    suspect(server)
    support.open("/fraud")
    text = shown(support)
    assert "It accuses nobody." in text
    assert "Many purchases 5 purchases within 1 hour. The rule points out 5 or more. Ada Brandt Medium" in text
    for query in ("?status=confirmed", "?rule=velocity.redeem", "?status=open&rule=receipt.duplicate"):
        support.open(f"/fraud{query}")
        assert "No case matches" in support.text, query
    support.open("/fraud?status=all&rule=velocity.earn&before=frd_nothing")
    assert "Ada Brandt" in support.text
    support.open("/fraud?status=strange")
    assert support.status == 404


def test_a_viewer_sees_the_initials_of_customers_and_no_actions(server: Server) -> None:
    _, case = suspect(server)
    viewer = new_member(server, "viewer").browser
    for path in ("/fraud", f"/fraud/cases/{case}"):
        viewer.open(path)
        assert "A… B…dt" in viewer.text
        assert "Ada Brandt" not in viewer.text
    for word in ("Dismiss", "Accept:", "Hold points"):
        assert word not in viewer.text
    viewer.open("/me")
    viewer.send(f"/fraud/cases/{case}/dismiss", note="x")
    assert viewer.status == 403


def test_evidence_stands_in_its_order_on_the_time_line(server: Server, support: Browser) -> None:
    customer, case = suspect(server)
    support.open(f"/fraud/cases/{case}")
    assert re.findall(rf"{customer}-\d", support.text) == [f"{customer}-{number}" for number in range(6)]
    places = [float(x) for x in re.findall(r'<circle class="f-accent" cx="([\d.]+)"', support.text)]
    assert len(places) == 6
    assert places == sorted(places)
    assert places[0] == 0.0
    assert places[-1] <= 600.0
    assert shown(support).count("10.00 EUR") == 6


def test_a_case_is_dismissed_with_a_reason_and_its_points_are_released(server: Server, support: Browser) -> None:
    customer, case = suspect(server, action="hold")
    assert server.get(f"/v1/customers/{customer}")["points"]["pending"] > 0
    support.open(f"/fraud/cases/{case}")
    support.send(f"/fraud/cases/{case}/dismiss", note=" ")
    assert support.status == 422
    assert "Write down why" in support.text
    support.send(f"/fraud/cases/{case}/dismiss", note="A family of four")
    assert "The case is dismissed." in support.text
    found = server.get(f"/v1/fraud/cases/{case}")
    assert (found["status"], found["note"]) == ("false_positive", "A family of four")
    assert found["resolved_by"].startswith("person:")
    assert server.get(f"/v1/customers/{customer}")["points"] == {"available": 60, "pending": 0, "debt": 0}
    support.open(f"/fraud/cases/{case}")
    assert "A family of four" in support.text
    assert "Dismissed" in support.text


def test_a_case_is_accepted_with_blocks_and_only_once(server: Server, support: Browser) -> None:
    customer, case = suspect(server, action="hold")
    support.open(f"/fraud/cases/{case}")
    support.send(f"/fraud/cases/{case}/accept", note="Till 4", block_redeeming="on")
    assert "The case is accepted." in support.text
    found = server.get(f"/v1/customers/{customer}")
    assert found["points"]["pending"] == 0
    assert (found["redeeming_blocked"], found["earning_blocked"]) == (True, False)
    support.open("/fraud/cases/" + suspect(server, "Bo")[1])
    support.send(f"/fraud/cases/{case}/dismiss", note="x")
    assert support.status == 409
    assert server.get(f"/v1/fraud/cases/{case}")["status"] == "confirmed"


def test_points_are_held_and_released_while_the_case_is_open(server: Server, support: Browser) -> None:
    customer, case = suspect(server)
    support.open(f"/fraud/cases/{case}")
    support.send(f"/fraud/cases/{case}/hold")
    assert "The points are held: the customer cannot redeem." in support.text
    refused = server.call("POST", "/v1/redemptions", {"customer_id": customer, "points": 10})
    assert refused.status >= 400
    support.send(f"/fraud/cases/{case}/release", key="")
    assert "The points are released" in support.text
    assert server.call("POST", "/v1/redemptions", {"customer_id": customer, "points": 10}).status == 201


def test_a_rule_is_tried_on_the_past_and_saved(server: Server) -> None:
    suspect(server)
    owner = new_member(server, "owner").browser
    path = "/fraud/rules/velocity.earn"
    owner.open("/fraud/rules")
    assert shown(owner).count("Only opens a case") == 12
    owner.open(path)
    given = {
        "enabled": "on", "shadow": "on", "action": "hold", "severity": "high", "score": "90", "cooldown": "PT12H",
        "version": "1", "params.threshold": "3", "params.window": "PT2H", "params.long_threshold": "9",
        "params.long_window": "PT24H",
    }  # fmt: skip
    owner.send(f"{path}/try", fields=given)
    text = shown(owner)
    assert "In the last 30 days it would have opened 1 case" in text, text
    assert "4 hits among 6 events." in text
    assert "3 purchases within 2 hours. The rule points out 3 or more." in text
    assert server.get("/v1/fraud/rules/velocity.earn")["version"] == 1
    owner.send(path, fields=given)
    rule = server.get("/v1/fraud/rules/velocity.earn")
    assert (rule["version"], rule["threshold"], rule["window"], rule["shadow"]) == (2, 3, "PT2H", True)
    assert (rule["action"], rule["severity"], rule["score"], rule["cooldown"]) == ("hold", "high", 90, "PT12H")
    owner.open(path)
    owner.send(path, fields=given)
    assert owner.status == 409, "another version is in force"
    for name, value in (("params.threshold", "1"), ("params.window", "P1M"), ("cooldown", "soon"), ("score", "101")):
        owner.open(path)
        owner.send(path, fields=given | {"version": "2", name: value})
        assert owner.status == 422, name
        assert f'id="{name}-error"' in owner.text
        assert f'value="{value}"' in owner.text


def test_support_sees_the_rules_and_cannot_change_them(support: Browser) -> None:
    support.open("/fraud/rules")
    assert "Many redemptions" in support.text
    assert "/fraud/rules/velocity.redeem" not in support.text
    support.open("/fraud/rules/velocity.redeem")
    assert support.status == 403


def test_an_unknown_case_and_an_unknown_rule_are_not_found(server: Server) -> None:
    owner = new_member(server, "owner").browser
    owner.open("/fraud/cases/frd_nothing")
    assert owner.status == 404
    owner.open("/fraud/rules/nothing")
    assert owner.status == 404
