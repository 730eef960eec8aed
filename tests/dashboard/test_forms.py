"""The fields of forms, and where an error is shown."""

import pytest

from loyalpro.kernel.errors import MalformedRequest, TooLarge
from loyalpro.web.dashboard.forms import parse_form


def test_a_form_has_texts_lists_and_boxes() -> None:
    form = parse_form(b"csrf=c&key=k&name=+CRM+&events=a&events=b&empty=&password=+x+")
    assert (form.csrf, form.key) == ("c", "k")
    assert form.text("name") == "CRM"
    assert form.raw("password") == " x "
    assert form.texts("events") == ["a", "b"]
    assert form.checked("events", "b")
    assert not form.checked("events", "c")
    assert (form.text("empty"), form.text("missing"), form.texts("missing")) == ("", "", [])


def test_the_token_is_no_field() -> None:
    assert parse_form(b"csrf=c&key=k").fields == {}


@pytest.mark.parametrize("body", [b"name=%ff", b"name=\xc3\xa4", b"%c0%af=1", b"name=%ed%a0%80"])
def test_a_form_that_is_not_utf_8_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedRequest):
        parse_form(body)


def test_a_form_has_at_most_a_thousand_fields() -> None:
    parse_form(b"&".join([b"a=1"] * 1_000))
    with pytest.raises(TooLarge):
        parse_form(b"&".join([b"a=1"] * 1_001))
