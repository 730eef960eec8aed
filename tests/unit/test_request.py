"""The headers of an attempt that are no signatures."""

import pytest

from loyalpro.delivery.breaker import HEALTHY
from loyalpro.delivery.ports import Claimed, Target
from loyalpro.transport.request import sign_attempt


def claimed(*headers: tuple[str, str]) -> Claimed:
    target = Target(
        endpoint_id="we_1",
        account_id="acct_1",
        url="https://shop.example/",
        headers=headers,
        secrets=("whsec_c2VjcmV0",),
        primary=0,
        rate_limit=None,
        ordered=False,
        health=HEALTHY,
    )
    return Claimed(
        delivery_id="dlv_1",
        event_id="evt_1",
        event_type="points.earned",
        body=b"{}",
        attempt_number=1,
        scheduled_attempts=1,
        first_attempt_at=0,
        customer_id=None,
        fallback=None,
        probe=False,
        target=target,
    )


@pytest.mark.parametrize(
    ("owners", "expected"),
    [
        ((), ("Accept", "*/*")),
        ((("X-Team", "loyalty"),), ("Accept", "*/*")),
        ((("accept", "application/json"),), ("accept", "application/json")),
    ],
)
def test_every_answer_is_accepted_unless_the_owner_says_which(
    owners: tuple[tuple[str, str], ...], expected: tuple[str, str]
) -> None:
    headers = sign_attempt(claimed(*owners), timestamp_s=1, primary=0)
    assert [each for each in headers if each[0].lower() == "accept"] == [expected]
    assert headers[len(headers) - len(owners) :] == owners
