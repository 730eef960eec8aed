import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from loyalpro.web.idempotency import Reply

NUMBERS = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | NUMBERS
    | st.text()
    | st.sampled_from(["\x7f", "\u2028", '"\\/', ",1.5", "[1e5", 1e-7, -2.5e-9, 1e16]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_the_body_of_a_reply_parses_to_its_content(value: Any) -> None:
    expected = {"data": value}
    found = json.loads(Reply(200, expected).body)
    assert repr(found) == repr(expected)
