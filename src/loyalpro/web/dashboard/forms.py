"""Forms: their fields, what is wrong with them, and the change that a form asks for, made once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl

import msgspec
from fastapi import Depends, Request

from loyalpro.kernel.errors import InvalidInput, LoyalProError, MalformedRequest, TooLarge
from loyalpro.kernel.record import record, with_fields
from loyalpro.kernel.unit_of_work import WriterName
from loyalpro.web.dashboard.visits import visit_of
from loyalpro.web.idempotency import IdempotentRequest, IdempotentResult, Reply, commit_form
from loyalpro.web.services import services_of
from loyalpro.web.unit import Unit

CSRF: Final = "csrf"
KEY: Final = "key"
_MAX_FIELDS: Final = 1_000
_KEY_BYTES: Final = 16
_LONGEST_KEY: Final = 64
_OF_A_FORM: Final = "form:"
"""What the idempotency keys of forms start with, so that they are never those of API requests."""
_DONE: Final = 200


@record
class Form:
    """The fields of a form, and what is wrong with them.

    `key`: its one-time key. `error`: what is wrong with the form as a whole. `errors`: what is wrong with a field, by its name.
    """

    fields: Mapping[str, Sequence[str]]
    key: str
    csrf: str = ""
    error: str | None = None
    errors: Mapping[str, str] | None = None

    def text(self, name: str) -> str:
        """The value of a field without white space around it; empty when it is missing."""
        return self.raw(name).strip()

    def raw(self, name: str) -> str:
        """The value of a field as it was sent, such as a password; empty when it is missing."""
        values = self.fields.get(name, ())
        return values[0] if values else ""

    def texts(self, name: str) -> list[str]:
        """All values of a field, such as those of checked boxes."""
        return list(self.fields.get(name, ()))

    def checked(self, name: str, value: str = "on") -> bool:
        """Whether the box of a field with this value is checked."""
        return value in self.fields.get(name, ())

    def error_of(self, name: str) -> str | None:
        """What is wrong with a field."""
        return (self.errors or {}).get(name)


def parse_form(body: bytes) -> Form:
    """The form of a body. Raises `MalformedRequest`, and `TooLarge` for more than 1,000 fields."""
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, encoding="utf-8", errors="strict", max_num_fields=_MAX_FIELDS
        )
    except UnicodeError:
        raise MalformedRequest("The form is not UTF-8 text.") from None
    except ValueError:
        raise TooLarge(f"A form may have at most {_MAX_FIELDS} fields.") from None
    fields: dict[str, list[str]] = {}
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    csrf, key = (fields.pop(name, [""])[0] for name in (CSRF, KEY))
    return Form(fields, key, csrf)


def blank(request: Request, **values: str | Sequence[str] | None) -> Form:
    """A form to be filled in, with a new one-time key. `values`: what its fields have at first."""
    key = services_of(request).random_bytes(_KEY_BYTES).hex()
    fields = {
        name: [value] if isinstance(value, str) else list(value) for name, value in values.items() if value is not None
    }
    return Form(fields, key)


def refused(request: Request, form: Form, error: LoyalProError, *known: str) -> Form:
    """The form with its input, with what is wrong, and with a new one-time key.

    `known`: the names of its fields. An error of another one, or of none, is one of the form as a whole.
    """
    new = with_fields(form, key=blank(request).key)
    if error.code == "idempotency_key_reused":
        return with_fields(new, error="This form was sent already. Send it again to do the same once more.")
    param = error.param or ""
    name = param if param in known else param.partition(".")[0].partition("[")[0]
    if name in known:
        return with_fields(new, errors={name: error.detail.removeprefix(f"{name}: ")})
    return with_fields(new, error=error.detail)


async def commit(
    request: Request, form: Form, work: Callable[[Unit], Mapping[str, Any]], writer: WriterName = "ingest"
) -> tuple[Mapping[str, Any], bool]:
    """Make the change that a form asks for, and whether an earlier request with this form has made it.

    `work`: the change; its result, which is stored for 24 hours, so it must not be secret. A form that is sent again gets the
    result of the first time.
    """
    visit = visit_of(request)
    assert visit is not None
    if not 1 <= len(form.key) <= _LONGEST_KEY or not (form.key.isascii() and form.key.isprintable()):
        raise InvalidInput("This form has no key. Reload the page, and send it again.")
    incoming = IdempotentRequest(None, _OF_A_FORM + form.key, request.state.form_fingerprint)
    result: IdempotentResult = await commit_form(
        services_of(request),
        visit.account_id,
        incoming,
        lambda unit: Reply(_DONE, dict(work(unit))),
        writer,
        actor=visit.actor,
    )
    return msgspec.json.decode(result.response.body), result.replayed


async def _form(request: Request) -> Form:
    """The form of a `POST`, which the route has read and checked."""
    form: Form = request.state.form
    return form


SentForm = Annotated[Form, Depends(_form)]
