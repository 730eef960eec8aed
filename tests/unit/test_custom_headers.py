"""Which custom headers an endpoint may have: none that a receiver could take for one of LoyalPro or of HTTP."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalpro.kernel.errors import InvalidInput
from loyalpro.webhooks.custom_headers import validate_custom_headers

RESERVED = (
    "X-LoyalPro-Signature X-LoyalPro-Event-Id X-LoyalPro-Anything webhook-id webhook-timestamp webhook-signature Content-Type "
    "Content-Length Transfer-Encoding Host Connection Keep-Alive Proxy-Connection Proxy-Authorization Proxy TE Trailer Upgrade "
    "HTTP2-Settings Expect User-Agent Accept-Encoding Cookie"
).split()
SEPARATORS = "-_.~!#$%&'*+^`|"


@st.composite
def spelled(draw: st.DrawFn, name: str) -> str:
    """The name with other separators and in mixed case."""
    letters = [draw(st.sampled_from([each.lower(), each.upper()])) for each in name]
    return "".join(draw(st.sampled_from(SEPARATORS)) if each == "-" else each for each in letters)


@pytest.mark.parametrize("name", RESERVED)
@given(data=st.data())
def test_reserved_names_are_refused_however_they_are_spelled(name: str, data: st.DataObject) -> None:
    given_name = data.draw(spelled(name))
    with pytest.raises(InvalidInput) as refusal:
        validate_custom_headers({given_name: "x"})
    assert refusal.value.code == "invalid_header"
    assert refusal.value.param == f"headers.{given_name}"


@pytest.mark.parametrize("name", ["X_LoyalPro_Signature", "webhook_id", "Content_Length", "x.loyalpro.event.id"])
def test_names_that_a_cgi_receiver_reads_as_reserved_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="could take it for one"):
        validate_custom_headers({name: "x"})


@pytest.mark.parametrize("names", [("X-Team", "x-team"), ("X-Team", "X_Team"), ("X.Team", "X-TEAM")])
def test_names_that_a_receiver_cannot_tell_apart_are_refused(names: tuple[str, str]) -> None:
    with pytest.raises(InvalidInput) as refusal:
        validate_custom_headers(dict.fromkeys(names, "x"))
    assert refusal.value.param == f"headers.{names[1]}"


def test_other_names_are_accepted() -> None:
    names = "Authorization X-Api-Key X_Tenant Accept X-Loyal X-Webhook-Source Hostname Contents Proximity Team".split()
    validate_custom_headers(dict.fromkeys(names, "x"))
