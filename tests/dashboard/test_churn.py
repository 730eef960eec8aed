"""Program > Churn: the spread of the scores, who is at risk and why, and the model."""

import html
import re
from collections.abc import Iterator
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalpro.loyalty.churn.entities import BUCKETS, ChurnRun, CustomerScore, counted
from loyalpro.loyalty.churn.levels import Standing
from loyalpro.web.dashboard.pages.churn import bars_of, why
from support.browser import Browser
from support.churn import LEAVING, REGULAR, await_first_run, record, run
from support.databases import Databases
from support.members import new_member
from support.server import Server


@pytest.fixture(params=("sqlite", "postgres"))
def server(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh(request.param)) as running:
        await_first_run(running)
        yield running


def shown(browser: Browser) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", browser.text)).split())


def test_scores_are_shown_with_their_spread_and_their_reasons(server: Server) -> None:
    owner = new_member(server, "owner").browser
    owner.open("/churn")
    assert "Nobody is scored yet" in owner.text
    record(server, {"regular": REGULAR, "leaving": LEAVING, "gone": LEAVING})
    finished = run(server)
    owner.open("/churn")
    text = shown(owner)
    assert f"High {finished['levels']['high']} from 0.8" in text
    assert "Scores of 3 customers" in text
    assert "No purchase for 100 days, which is long for this customer's usual gap." in text
    assert text.count("No purchase for 100 days") == 2
    assert "Gaps between purchases" in text
    counts = [int(each) for each in re.findall(r'</td><td class="num">(\d+)</td></tr>', owner.text)]
    assert (len(counts), sum(counts)) == (BUCKETS, 3)
    owner.open("/churn?level=low")
    assert "regular" in owner.text
    owner.open("/churn?level=medium&after=cus_nothing")
    assert "Nobody is at this level" in owner.text


def test_a_run_is_started_by_owners_only(server: Server) -> None:
    record(server, {"leaving": LEAVING})
    run(server)
    support = new_member(server, "support").browser
    support.open("/churn")
    assert "Score now" not in support.text
    owner = new_member(server, "owner").browser
    owner.open("/churn")
    owner.send("/churn/run")
    assert "All customers are being scored." in owner.text
    audited = [each["actor"] for each in server.get("/v1/audit_log")["data"] if each["action"] == "churn_run.started"]
    assert audited[0].startswith("person:")


@given(st.lists(st.floats(0, 1)), st.lists(st.floats(0, 1)))
def test_pieces_of_a_run_count_like_the_whole(first: list[float], second: list[float]) -> None:
    whole = counted(None, [*first, *second])
    assert counted(counted(None, first), second) == whole
    assert (len(whole), sum(whole)) == (BUCKETS, len(first) + len(second))
    assert counted(None, [1.0])[-1] == counted(None, [0.0])[0] == 1


def finished(**fields: object) -> ChurnRun:
    made = ChurnRun("job_1", "acct_1", date(2026, 11, 28), requested=False, baseline=False, actor="a", created_at=0)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def test_the_picture_is_left_out_when_it_would_not_show_everybody() -> None:
    assert bars_of(None, 0.6, 0.8) == []
    assert bars_of(finished(low=2), 0.6, 0.8) == []
    assert bars_of(finished(low=2, histogram=counted(None, [0.1])), 0.6, 0.8) == []
    assert bars_of(finished(histogram=counted(None, [])), 0.6, 0.8) == []
    bars = bars_of(finished(low=2, medium=1, high=1, histogram=counted(None, [0.1, 0.12, 0.7, 0.9])), 0.6, 0.8)
    assert [(text, count, height, color) for text, count, height, color in bars if count] == [
        ("0.10 to 0.15", 2, 120.0, "f-ok"),
        ("0.70 to 0.75", 1, 60.0, "f-wait"),
        ("0.90 to 0.95", 1, 60.0, "f-bad"),
    ]


def test_the_chances_of_a_model_are_said() -> None:
    standing = Standing("high", date(1970, 1, 1), date(1970, 1, 1))
    score = CustomerScore("cus_1", "acct_1", 0.9, 0.389, 0.0049, "2026-11-22", 95 * 86_400_000, standing)
    assert why(score, 90) == (
        "No purchase for 95 days. A purchase within 90 days: less than 1 %. Still a customer: 39 %."
    )
