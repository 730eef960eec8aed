"""The rules of deliveries: which ones can be sent again, which ones can be canceled, and which event types exist."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loyalpro.delivery.states import FINISHED, DeliveryStatus, EndpointStatus
from loyalpro.events.catalog import EVENT_TYPES
from loyalpro.kernel.errors import Conflict, InvalidInput
from loyalpro.webhooks.deliveries import needs_cancel, require_enabled, require_retryable
from loyalpro.webhooks.entities import DeliverySnapshot
from loyalpro.webhooks.event_types import checked_type, checked_types

RETRYABLE = DeliverySnapshot(
    delivery_id="dlv_1",
    endpoint_id="we_1",
    customer_id="cus_1",
    status=DeliveryStatus.PENDING,
    due_at=1_763_980_200_000,
    endpoint=EndpointStatus.ENABLED,
    being_sent=False,
    fallback=None,
    waits_for=None,
    event_kept=True,
)
STATUSES = list(DeliveryStatus)
OBSTACLES: list[tuple[dict[str, Any], str]] = [
    ({"endpoint": None}, "endpoint_deleted"),
    ({"endpoint": EndpointStatus.PAUSED}, "endpoint_not_enabled"),
    ({"endpoint": EndpointStatus.DISABLED}, "endpoint_not_enabled"),
    ({"being_sent": True}, "delivery_in_flight"),
    ({"fallback": DeliveryStatus.SUCCEEDED}, "delivery_in_flight"),
    ({"event_kept": False}, "event_expired"),
    ({"waits_for": "dlv_0"}, "delivery_waits_its_turn"),
]


@pytest.mark.parametrize("status", STATUSES)
def test_a_delivery_of_any_status_can_be_retried(status: DeliveryStatus) -> None:
    require_retryable(replace(RETRYABLE, status=status))


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize(("state", "code"), OBSTACLES)
def test_a_delivery_that_cannot_be_sent_now_is_not_retried(
    status: DeliveryStatus, state: dict[str, Any], code: str
) -> None:
    with pytest.raises(Conflict) as refused:
        require_retryable(replace(RETRYABLE, status=status, **state))
    assert refused.value.code == code


@given(st.lists(st.sampled_from(OBSTACLES), min_size=2))
def test_of_several_obstacles_the_first_of_the_list_is_named(obstacles: list[tuple[dict[str, Any], str]]) -> None:
    by_field = {field: (value, code) for state, code in obstacles for field, value in state.items()}
    snapshot = replace(RETRYABLE, **{field: value for field, (value, _) in by_field.items()})
    with pytest.raises(Conflict) as refused:
        require_retryable(snapshot)
    order = ["endpoint", "being_sent", "fallback", "event_kept", "waits_for"]
    assert refused.value.code == next(by_field[field][1] for field in order if field in by_field)


def test_a_refusal_names_the_delivery_that_has_to_end_first() -> None:
    with pytest.raises(Conflict, match="retry or cancel dlv_0 first"):
        require_retryable(replace(RETRYABLE, waits_for="dlv_0"))


@pytest.mark.parametrize("status", list(EndpointStatus))
def test_only_an_enabled_endpoint_gets_deliveries(status: EndpointStatus) -> None:
    if status is EndpointStatus.ENABLED:
        require_enabled("we_1", status)
        return
    with pytest.raises(Conflict, match=f"we_1 is {status}"):
        require_enabled("we_1", status)


@pytest.mark.parametrize(
    ("status", "needed"), [(DeliveryStatus.PENDING, True), (DeliveryStatus.CANCELED, False)], ids=str
)
@pytest.mark.parametrize("endpoint", [None, *EndpointStatus])
def test_a_pending_delivery_can_be_canceled_and_a_canceled_one_is_left_as_it_is(
    status: DeliveryStatus, endpoint: EndpointStatus | None, *, needed: bool
) -> None:
    assert needs_cancel(replace(RETRYABLE, status=status, endpoint=endpoint)) is needed


@pytest.mark.parametrize("status", sorted(FINISHED - {DeliveryStatus.CANCELED}))
def test_a_delivery_that_has_ended_cannot_be_canceled(status: DeliveryStatus) -> None:
    with pytest.raises(Conflict) as refused:
        needs_cancel(replace(RETRYABLE, status=status))
    assert refused.value.code == "delivery_finished"


@pytest.mark.parametrize(
    ("fallback", "after"),
    [
        (None, "canceled"),
        ("pending", "canceled"),
        ("canceled", "canceled"),
        ("succeeded", "succeeded"),
        ("exhausted", "exhausted"),
    ],
)
def test_a_cancel_of_a_manual_attempt_restores_the_end_from_before(fallback: str | None, after: str) -> None:
    before = None if fallback is None else DeliveryStatus(fallback)
    assert replace(RETRYABLE, fallback=before).once_canceled == after


@given(st.lists(st.sampled_from(sorted(EVENT_TYPES))))
def test_event_types_are_kept_in_their_order_and_each_once(types: list[str]) -> None:
    checked = checked_types(types)
    assert set(checked) == set(types)
    assert list(checked) == sorted(set(types), key=types.index)


@given(st.lists(st.sampled_from([*sorted(EVENT_TYPES), "*"])), st.integers(0, 5))
def test_a_star_among_event_types_stands_for_all(types: list[str], place: int) -> None:
    assert checked_types([*types[:place], "*", *types[place:]]) == ("*",)


@given(st.lists(st.sampled_from([*sorted(EVENT_TYPES), "*"])), st.text(), st.integers(0, 5))
@example(types=["*"], unknown="no.such.type", place=1)
def test_an_unknown_event_type_is_refused_even_beside_a_star(types: list[str], unknown: str, place: int) -> None:
    if unknown == "*" or unknown in EVENT_TYPES:
        return
    with pytest.raises(InvalidInput) as refused:
        checked_types([*types[:place], unknown, *types[place:]], param="types")
    assert (refused.value.code, refused.value.param) == ("unknown_event_type", "types")


def test_a_star_is_not_a_single_event_type() -> None:
    with pytest.raises(InvalidInput):
        checked_type("*", param="type")
