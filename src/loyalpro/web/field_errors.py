"""Says in plain words which field of a request is wrong and what to send. pydantic finds it, and speaks of Python's types."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from loyalpro.kernel.errors import InvalidInput
from loyalpro.kernel.json_path import path_text
from loyalpro.kernel.nearest import nearest, suggestion

MAX_ERRORS: Final = 100
UNKNOWN_FIELD: Final = "unknown_field"
"""The kind of the error for a field that a body does not have; its context has the `name`, and all `known` ones."""
OWN_WORDS: Final = frozenset({UNKNOWN_FIELD, "control_character", "time", "email", "empty", "too_many", "form"})
"""The kinds of errors that this program raises; they say themselves what to do."""

_TEXTS: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "none_required": lambda _: "Send null, or leave the field out",
    "missing": lambda _: "This field is missing; send it",
    "string_type": lambda _: "Send a string",
    "string_too_short": lambda given: f"Send at least {given['min_length']} character(s)",
    "string_too_long": lambda given: f"Send at most {given['max_length']} characters",
    "int_type": lambda _: "Send an integer",
    "int_from_float": lambda _: "Send an integer, without a fraction",
    "int_parsing": lambda _: "Send an integer",
    "int_parsing_size": lambda _: "Send a smaller integer",
    "float_type": lambda _: "Send a number",
    "bool_type": lambda _: "Send true or false",
    "bool_parsing": lambda _: "Send true or false",
    "list_type": lambda _: "Send an array",
    "dict_type": lambda _: "Send an object",
    "model_type": lambda _: "Send an object",
    "model_attributes_type": lambda _: "Send an object",
    "too_short": lambda given: f"Send at least {given['min_length']} item(s)",
    "too_long": lambda given: f"Send at most {given['max_length']} item(s)",
    "greater_than": lambda given: f"Send more than {given['gt']}",
    "greater_than_equal": lambda given: f"Send {given['ge']} or more",
    "less_than_equal": lambda given: f"Send {given['le']} or less",
}


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field that is wrong: where it is and, in `detail`, what to do."""

    kind: str
    param: str
    detail: str


def field_error(error: Mapping[str, Any], location: Sequence[str | int]) -> FieldError:
    """The error as pydantic describes it, in our words."""
    kind, context = str(error["type"]), error.get("ctx") or {}
    steps = [step for step in location if step != "[key]"]
    if kind == UNKNOWN_FIELD:
        name, known = context["name"], context["known"]
        return FieldError(kind, path_text([*steps, name]), suggestion(name, known, "field"))
    return FieldError(kind, path_text(steps), _detail(kind, context, error))


def _detail(kind: str, context: Mapping[str, Any], error: Mapping[str, Any]) -> str:
    if kind == "literal_error":
        return _one_of(str(context["expected"]), error.get("input"))
    if kind in OWN_WORDS:
        return str(error["msg"])
    text = _TEXTS.get(kind)
    return "This value is not accepted; GET /openapi.json describes the field" if text is None else text(context)


def _one_of(expected: str, given: object) -> str:
    """`expected` is a list of the values, such as `'none' or 'customer'`."""
    values = expected.replace("'", "").replace(" or ", ", ").split(", ")
    near = nearest(given, values) if isinstance(given, str) else None
    return f"Send one of: {', '.join(values)}" + (f". Did you mean {near}?" if near else "")


def refusal(error: ValidationError) -> InvalidInput:
    """The error of one object of a batch: the same as if the object were the whole body."""
    if error.error_count() > MAX_ERRORS:
        return _too_many()  # pydantic formats each of them, and there can be thousands
    return refused([field_error(each, each["loc"]) for each in error.errors(include_url=False)])


def refused(found: Sequence[FieldError]) -> InvalidInput:
    """The error of a body with these wrong fields: the first one."""
    if len(found) > MAX_ERRORS:
        return _too_many()
    first = found[0]
    code = {"missing": "missing_field", UNKNOWN_FIELD: "unknown_field"}.get(first.kind, "invalid_field")
    end = "" if first.detail.endswith(("?", ".")) else "."
    return InvalidInput(f"{first.param or 'The body'}: {first.detail}{end}", code=code, param=first.param or None)


def _too_many() -> InvalidInput:
    return InvalidInput(
        f"More than {MAX_ERRORS} fields are wrong; GET /openapi.json describes the fields.", code="invalid_field"
    )
