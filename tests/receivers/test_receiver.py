"""What the simulated and the real receivers share: verification, the choice of a behavior, the record of a request."""

import ast
import datetime as dt
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from standardwebhooks.webhooks import Webhook

import chaos
import receivers
from receivers.behavior import Behavior, BehaviorMix, random_points, seeded_points
from receivers.receiver import Outage, Receiver, WebhookRequest
from receivers.signatures import plain_signature, standard_signature

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"id":"evt_1"}'
HEADERS = {
    "X-LoyalPro-Event-Id": "evt_1",
    "X-LoyalPro-Delivery-Id": "dlv_1",
    "X-LoyalPro-Attempt": "3",
    "X-LoyalPro-Signature": plain_signature(SECRET, BODY),
    "webhook-id": "evt_1",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,bm8= " + standard_signature(SECRET, "evt_1", "1614265330", BODY),
}


def test_a_request_is_recorded_as_its_headers_describe_it() -> None:
    request = receiver().read(HEADERS, BODY)
    assert request == WebhookRequest("dlv_1", "evt_1", "evt_1", 3, BODY, signed=True)


def test_a_request_without_headers_is_recorded_with_empty_values() -> None:
    assert receiver().read({}, BODY) == WebhookRequest("", "", "", 0, BODY, signed=False)


@pytest.mark.parametrize("name", ["X-LoyalPro-Signature", "webhook-signature", "webhook-id", "webhook-timestamp"])
def test_a_request_is_signed_only_if_both_signatures_are_valid(name: str) -> None:
    assert not receiver().read(HEADERS | {name: "1"}, BODY).signed


def test_a_request_with_another_body_is_not_signed() -> None:
    assert not receiver().read(HEADERS, BODY + b" ").signed


def test_the_standard_signature_is_that_of_the_reference_library() -> None:
    signed_at = dt.datetime.fromtimestamp(1614265330, dt.UTC)
    reference = Webhook(SECRET).sign("evt_1", signed_at, BODY.decode())
    assert standard_signature(SECRET, "evt_1", "1614265330", BODY) == reference


def test_each_behavior_has_its_share_and_the_rest_is_accepted() -> None:
    mix = BehaviorMix({Behavior.GONE: 0.25, Behavior.MOVED: 0.25})
    counts = Counter(mix.choose("evt", f"dlv_{n}", 1, seeded_points("seed")) for n in range(4_000))
    assert counts.keys() == {Behavior.ACCEPT, Behavior.GONE, Behavior.MOVED}
    assert 1_900 < counts[Behavior.ACCEPT] < 2_100
    assert 900 < counts[Behavior.GONE] < 1_100


def test_with_seeded_points_the_behavior_does_not_depend_on_the_order_of_requests() -> None:
    mix = BehaviorMix({Behavior.SERVER_ERROR: 0.5})
    attempts = [(f"dlv_{n}", attempt) for n in range(50) for attempt in (1, 2)]

    def choices(order: list[tuple[str, int]]) -> dict[tuple[str, int], Behavior]:
        return {each: mix.choose("evt", *each, seeded_points("seed")) for each in order}

    assert choices(attempts) == choices(attempts[::-1])
    assert len(set(choices(attempts).values())) == 2


def test_every_attempt_of_a_rejected_event_is_answered_with_500() -> None:
    mix = BehaviorMix(rejected_events=0.5)
    points = seeded_points("seed")
    behaviors = {
        event: {mix.choose(event, f"dlv_{event}", n, points) for n in range(20)} for event in map(str, range(50))
    }
    assert all(len(each) == 1 for each in behaviors.values())
    assert set().union(*behaviors.values()) == {Behavior.ACCEPT, Behavior.SERVER_ERROR}


def test_an_outage_has_one_behavior_until_it_ends_or_the_receiver_is_healed() -> None:
    mine = receiver(outages=[Outage(10.0, 20.0, Behavior.REFUSE)])
    request = mine.read(HEADERS, BODY)
    assert [mine.behavior(request, at_s) for at_s in (9.9, 10.0, 19.9, 20.0)] == [
        Behavior.ACCEPT,
        Behavior.REFUSE,
        Behavior.REFUSE,
        Behavior.ACCEPT,
    ]
    mine.healed = True
    assert mine.behavior(request, 15.0) is Behavior.ACCEPT


@pytest.mark.parametrize("package", [chaos, receivers], ids=lambda package: package.__name__)
def test_what_judges_the_product_shares_no_code_with_it(package: ModuleType) -> None:
    folder = Path(package.__file__ or "").parent
    imported = {name.partition(".")[0] for path in folder.glob("*.py") for name in imports(path)}
    assert "loyalpro" not in imported


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def receiver(outages: list[Outage] | None = None) -> Receiver:
    return Receiver(secret=SECRET, points=random_points(random.Random(1)), outages=outages or [])
