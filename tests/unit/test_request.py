"""The headers of an attempt, except for the signatures."""

from dataclasses import replace

import pytest

from loyalpro.delivery.claims import Claimed
from loyalpro.transport.request import sign_attempt
from support.claims import CLAIMED


def with_headers(*headers: tuple[str, str]) -> Claimed:
    return replace(CLAIMED, target=replace(CLAIMED.target, headers=headers))


@pytest.mark.parametrize(
    ("custom", "expected"),
    [
        ((), ("Accept", "*/*")),
        ((("X-Team", "loyalty"),), ("Accept", "*/*")),
        ((("accept", "application/json"),), ("accept", "application/json")),
    ],
)
def test_any_response_type_is_accepted_unless_a_custom_header_names_one(
    custom: tuple[tuple[str, str], ...], expected: tuple[str, str]
) -> None:
    headers = sign_attempt(with_headers(*custom), timestamp_s=1, primary=0)
    assert [each for each in headers if each[0].lower() == "accept"] == [expected]
    assert headers[len(headers) - len(custom) :] == custom
