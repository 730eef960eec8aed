"""The headers of an attempt that are no signatures."""

from dataclasses import replace

import pytest

from loyalpro.delivery.claims import Claimed
from loyalpro.transport.request import sign_attempt
from support.claims import CLAIMED


def claimed(*headers: tuple[str, str]) -> Claimed:
    return replace(CLAIMED, target=replace(CLAIMED.target, headers=headers))


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
