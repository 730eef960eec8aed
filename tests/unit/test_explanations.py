"""The sentences that say what happened to a delivery."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalpro.delivery.attempt import OutcomeCode
from loyalpro.kernel.ids import delivery_id, forged_delivery_id, is_forged
from loyalpro.webhooks.entities import PastRequest
from loyalpro.webhooks.explanations import explanation

REQUEST = PastRequest(0, "succeeded", "", (), 200, (), b"", False, None, None, None, None, None, 30_000.0)


def words(outcome: str, status: int | None = None) -> tuple[str, str]:
    found = explanation(replace(REQUEST, outcome=outcome, response_status=status))
    return found.label, found.sentence


@pytest.mark.parametrize(
    ("outcome", "status", "label", "sentence"),
    [
        ("succeeded", 204, "204", "The endpoint answered 204."),
        ("http_5xx", 500, "500", "The endpoint answered 500, an error of its own."),
        ("http_5xx", 502, "502", "The endpoint answered 502: what stands in front of it got no valid answer from it."),
        ("http_4xx", 404, "404", "The endpoint answered 404: it knows no such path."),
        ("http_4xx", 418, "418", "The endpoint answered 418: it refused the request."),
        ("http_3xx", 302, "302", "The endpoint answered 302, a redirect, which is never followed."),
        ("http_other", 101, "101", "The endpoint answered 101, which is no answer to a POST."),
        ("timeout", None, "No answer", "The endpoint did not answer in 30 s."),
        ("connect_failed", None, "No connection", "No connection could be made."),
    ],
)
def test_an_outcome_has_a_sentence(outcome: str, status: int | None, label: str, sentence: str) -> None:
    assert words(outcome, status) == (label, sentence)


@pytest.mark.parametrize("outcome", OutcomeCode)
@pytest.mark.parametrize("status", [None, 200, 302, 404, 599])
def test_every_outcome_has_a_sentence_that_ends(outcome: OutcomeCode, status: int | None) -> None:
    label, sentence = words(outcome, status)
    assert 0 < len(label) <= 16
    assert sentence[0].isupper()
    assert sentence.endswith(".")


IDS = st.text("0123456789abcdefghjkmnpqrstvwxyz", min_size=26, max_size=26)


@given(IDS, IDS, IDS)
def test_a_forged_id_differs_from_that_of_the_same_event_and_endpoint(event: str, endpoint: str, other: str) -> None:
    event_id, endpoint_id = f"evt_{event}", f"we_{endpoint}"
    forged = forged_delivery_id(event_id, endpoint_id)
    assert is_forged(forged, endpoint_id)
    assert not is_forged(delivery_id(event_id, endpoint_id), endpoint_id)
    assert delivery_id(event_id, "") < forged < delivery_id(event_id, "~"), "lists of the event's deliveries have it"
