"""Deliveries that are signed wrongly on purpose: sent once, whatever happens, and counted nowhere."""

from collections.abc import Callable

import pytest

from delivery.stage import SECRET, Hit, Receiver, Reply, Stage, play
from loyalpro.delivery.breaker import HEALTHY
from loyalpro.delivery.states import DeliveryStatus, EndpointStatus
from loyalpro.kernel.errors import Conflict
from loyalpro.kernel.ids import is_forged
from loyalpro.transport.signing import plain, standard
from loyalpro.webhooks.entities import Delivery
from loyalpro.webhooks.test_events import SendTestEvent, send_test_event


def forge(stage: Stage, receiver: Receiver) -> Delivery:
    command = SendTestEvent(receiver.account_id, receiver.endpoint_id, "points.redeemed", forged=True)
    return stage.change(lambda unit: send_test_event(unit, command))


def is_signed(hit: Hit) -> bool:
    """Whether either header verifies with the secret of the endpoint."""
    headers = hit.headers
    of_standard = standard(SECRET, headers["webhook-id"], int(headers["webhook-timestamp"]), hit.body)
    return headers["X-LoyalPro-Signature"] == plain(SECRET, hit.body) or of_standard in headers["webhook-signature"]


def checking(hit: Hit) -> Reply:
    return Reply(200 if is_signed(hit) else 401)


def health(stage: Stage, receiver: Receiver) -> object:
    return stage.change(lambda unit: unit.health.of([receiver.endpoint_id])[receiver.endpoint_id])


@pytest.mark.parametrize(
    ("answer", "status", "outcome"),
    [
        (checking, DeliveryStatus.CANCELED, "http_4xx"),
        (lambda _: Reply(), DeliveryStatus.SUCCEEDED, "succeeded"),
        (lambda _: Reply(503, retry_after_s=60), DeliveryStatus.CANCELED, "http_5xx"),
        (lambda _: Reply(410), DeliveryStatus.CANCELED, "gone"),
    ],
)
def test_a_forged_delivery_is_sent_once_and_leaves_the_endpoint_as_it_is(
    answer: Callable[[Hit], Reply], status: DeliveryStatus, outcome: str
) -> None:
    async def story(stage: Stage) -> None:
        stage.server()
        receiver = stage.endpoint(answer)
        for _ in range(6):  # as many failures would open the breaker
            forge(stage, receiver)
            count = len(stage.deliveries(receiver))
            await stage.until(lambda: all(each.outcome for each in stage.deliveries(receiver)))
            assert len(receiver.hits) == count
        assert {(each.status, each.outcome, each.attempts) for each in stage.deliveries(receiver)} == {
            (status, outcome, 1)
        }
        assert not any(is_signed(hit) for hit in receiver.hits)
        assert health(stage, receiver) == HEALTHY
        assert stage.status(receiver) == (EndpointStatus.ENABLED, None)
        assert stage.notices() == []

    play(story)


def test_a_forged_delivery_passes_an_open_breaker_and_is_no_probe() -> None:
    async def story(stage: Stage) -> None:
        works = False
        stage.server()
        receiver = stage.endpoint(lambda hit: Reply(500) if not works and is_signed(hit) else checking(hit))
        stage.happen(receiver, *"abcdef")
        await stage.until(lambda: health(stage, receiver) != HEALTHY and len(receiver.hits) > 8)
        before = health(stage, receiver)
        forged = forge(stage, receiver)
        await stage.until(lambda: stage.deliveries(receiver)[-1].outcome is not None)
        assert stage.deliveries(receiver)[-1].status is DeliveryStatus.CANCELED
        assert health(stage, receiver).failing_since == before.failing_since  # type: ignore[attr-defined]
        works = True
        await stage.until(lambda: stage.statuses(receiver) == {"succeeded", "canceled"}, 4_000.0)
        assert sum(hit.headers["X-LoyalPro-Delivery-Id"] == forged.id for hit in receiver.hits) == 1

    play(story)


def test_a_forged_delivery_survives_a_crash_and_is_wrong_again() -> None:
    async def story(stage: Stage) -> None:
        first = stage.server("first")
        receiver = stage.endpoint(lambda hit: Reply(401, wait_s=20.0 if hit.server == "first" else 0.01))
        forge(stage, receiver)
        await stage.until(lambda: len(receiver.hits) == 1)
        first.kill()
        stage.server("second")
        await stage.until(lambda: stage.statuses(receiver) == {"canceled"})
        assert [hit.attempt for hit in receiver.hits] == [1, 2]
        assert not any(is_signed(hit) for hit in receiver.hits)
        assert receiver.hits[0].headers["X-LoyalPro-Signature"] == receiver.hits[1].headers["X-LoyalPro-Signature"]

    play(story)


def test_real_deliveries_beside_a_forged_one_are_signed_and_open_no_breaker_for_it() -> None:
    async def story(stage: Stage) -> None:
        stage.server()
        receiver = stage.endpoint(checking)
        forge(stage, receiver)
        stage.happen(receiver, *"abcdef")
        forge(stage, receiver)
        await stage.until(lambda: all(each.outcome for each in stage.deliveries(receiver)))
        found = stage.deliveries(receiver)
        assert [each.status.value for each in found if not each.forged] == ["succeeded"] * 6
        assert [each.status.value for each in found if each.forged] == ["canceled"] * 2
        assert health(stage, receiver) == HEALTHY

    play(story)


@pytest.mark.parametrize("status", [EndpointStatus.PAUSED, EndpointStatus.DISABLED])
def test_nothing_is_forged_for_an_endpoint_that_is_not_enabled(status: EndpointStatus) -> None:
    async def story(stage: Stage) -> None:
        receiver = stage.endpoint()
        stage.set_status(receiver, status)
        with pytest.raises(Conflict) as refusal:
            forge(stage, receiver)
        assert refusal.value.code == "endpoint_not_enabled"
        assert stage.deliveries(receiver) == []

    play(story)


def test_the_id_says_that_a_delivery_is_forged() -> None:
    async def story(stage: Stage) -> None:
        receiver = stage.endpoint()
        stage.happen(receiver, "a")
        forged = forge(stage, receiver)
        [other] = [each for each in stage.deliveries(receiver) if each.id != forged.id]
        assert (forged.forged, other.forged) == (True, False)
        assert is_forged(forged.id, receiver.endpoint_id)

    play(story)
