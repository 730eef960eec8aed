"""Keys of e-mail addresses and phone numbers: what is one value, and what is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalpro.loyalty.contact import email_identity, email_key, keyed_hash, phone_key

TEXT = st.text(alphabet="aB.+@ \tÜ0\u0661-", max_size=12)
LOCAL = st.text(alphabet="abcXYZ09_-", min_size=1, max_size=8)
TAG = st.text(alphabet="abc+._-", max_size=6)


@pytest.mark.parametrize(
    ("email", "key", "identity"),
    [
        (" Ada@Example.COM ", "ada@example.com", "ada@example.com"),
        ("a.d.a+news@gmail.com", "a.d.a+news@gmail.com", "ada@gmail.com"),
        ("a.d.a+news@example.com", "a.d.a+news@example.com", "a.d.a@example.com"),
        ("a.da@googlemail.com", "a.da@googlemail.com", "a.da@googlemail.com"),
        ("+tag@x.co", "+tag@x.co", "+tag@x.co"),
        ("...@gmail.com", "...@gmail.com", "...@gmail.com"),
        ("odd", "odd", "odd"),
        ("  ", None, None),
        (None, None, None),
    ],
)
def test_an_address_has_a_key_to_search_by_and_an_identity_without_tag_and_gmail_dots(
    email: str | None, key: str | None, identity: str | None
) -> None:
    assert (email_key(email), email_identity(email)) == (key, identity)


@pytest.mark.parametrize(
    ("phone", "key"),
    [
        ("+44 (79) 46-0958", "+44 79460958".replace(" ", "")),
        (" 079/460.958 ", "079460958"),
        ("\u0660\u0661\u0662", "012"),
        ("+", None),
        ("call me", None),
        ("", None),
        (None, None),
    ],
)
def test_a_phone_number_is_its_digits_and_a_leading_plus(phone: str | None, key: str | None) -> None:
    assert phone_key(phone) == key


@given(TEXT)
def test_the_key_of_a_key_is_the_key(text: str) -> None:
    for key_of in (email_key, email_identity, phone_key):
        assert key_of(key_of(text)) == key_of(text)


@given(LOCAL, TAG, st.sampled_from(["gmail.com", "example.com"]))
def test_tags_never_make_another_identity(local: str, tag: str, domain: str) -> None:
    assert email_identity(f"{local}+{tag}@{domain}") == email_identity(f" {local.upper()}@{domain.upper()} ")


@given(st.lists(LOCAL, min_size=1, max_size=4))
def test_dots_make_another_identity_except_at_gmail(parts: list[str]) -> None:
    dotted, plain = ".".join(parts), "".join(parts)
    assert email_identity(f"{dotted}@gmail.com") == email_identity(f"{plain}@gmail.com")
    assert (email_identity(f"{dotted}@x.co") == email_identity(f"{plain}@x.co")) == (len(parts) == 1)


@given(st.text(alphabet="0123456789", min_size=1), st.text(alphabet=" -()./", max_size=3))
def test_separators_do_not_make_another_number(digits: str, separator: str) -> None:
    assert phone_key(f"+{separator.join(digits)}") == f"+{digits}"
    assert phone_key(separator.join(digits)) == digits


@given(st.binary(min_size=32, max_size=32), st.text(max_size=5), st.text(max_size=5))
def test_a_hash_depends_on_the_key_the_kind_and_the_value(key: bytes, value: str, other: str) -> None:
    hashed = keyed_hash(key, "device", value)
    assert len(hashed) == 32
    assert len(value.encode()) < 4 or value.encode() not in hashed  # a hash may have a byte or two of it by chance
    assert (keyed_hash(key, "device", other) == hashed) == (other == value)
    assert keyed_hash(key, "payment", value) != hashed
    assert keyed_hash(bytes(32), "device", value) != hashed or key == bytes(32)
