"""What a text may find a customer by."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalpro.loyalty.customer_search import name_starts

ASCII_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
NAMES = st.text(alphabet="abZÄößÉñŁж -", min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("text", "starts"),
    [("ADA b", ["ada b"]), ("östlund", ["östlund", "Östlund"])],
)
def test_each_way_of_writing_is_looked_for_once(text: str, starts: list[str]) -> None:
    assert name_starts(text) == starts


@given(NAMES)
def test_a_name_is_found_as_it_is_written_whatever_letters_the_database_changes(name: str) -> None:
    for stored in (name, name.title(), name.upper(), name.lower()):
        assert {stored.translate(ASCII_LOWER), stored.lower()} & {*name_starts(name)}
