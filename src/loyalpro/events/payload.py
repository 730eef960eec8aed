"""What the payload of an event is made of: records whose fields, in their order, are the fields of the JSON object.

The record is the one definition of a payload. mypy checks the code that makes one, `data` turns it into the JSON object that
is sent, and the catalog builds the published JSON Schema from it. So nothing is validated again when an event is sealed.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar, dataclass_transform, get_args, get_type_hints

from pydantic import ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema

STRICT: Final = ConfigDict(extra="forbid", strict=True)
"""No conversions, and no field that the record does not have."""

Points = Annotated[int, Field(description="Whole points.")]
SignedPoints = Annotated[int, Field(description="Whole points, signed.")]
Money = Annotated[int, Field(description="Integer in the currency's minor unit.")]
Time = Annotated[
    str,
    Field(description="RFC 3339, UTC, milliseconds.", pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"),
]


class OpenEnumeration:
    """Publishes a `Literal` as any string, with the values of the `Literal` as examples.

    mypy checks the code that writes a value. A receiver accepts any, because a value may be added within an API version.
    """

    __slots__ = ()

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The schema of a string, instead of that of the `Literal`."""
        return handler.generate_schema(Annotated[str, Field(examples=list(get_args(source)))])


OPEN: Final = OpenEnumeration()
"""`Annotated[Literal["a", "b"], OPEN]` is an open enumeration."""

Source = Annotated[Literal["api", "dashboard", "import"], OPEN]
"""The way by which a change arrived."""


class Shape:
    """Base of every part of a payload that this program writes.

    A part that is stored as it was sent, and whose fields may be absent (an item, a rule), is a `TypedDict` instead.
    """

    __slots__ = ()
    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    def data(self) -> dict[str, Any]:
        """The JSON object. It has every field of the record, with null for None."""
        return _writers[type(self)](self)


class Payload(Shape):
    """Base of what an event says: the `data` of its body. `type` is the name of the event type."""

    __slots__ = ()
    type: ClassVar[str]


S = TypeVar("S", bound=Shape)

_writers: dict[type[Shape], Callable[[Any], dict[str, Any]]] = {}


@dataclass_transform(frozen_default=True, kw_only_default=True)
def shape(cls: type[S]) -> type[S]:
    """Makes an immutable record of a subclass of `Shape`, and a function that writes its JSON object.

    All fields are keywords.
    """
    made = dataclass(slots=True, unsafe_hash=True, kw_only=True)(cls)
    _writers[made] = _writer(made)
    return made


def _writer(cls: Any) -> Callable[[Any], dict[str, Any]]:
    """Reads all fields at once: a payload is written for every event, thousands in a second."""
    names = [each.name for each in fields(cls)]
    hints = get_type_hints(cls)
    nested = [name for name in names if _mentions_shape(hints[name])]
    read: Callable[[Any], tuple[Any, ...]] = attrgetter(*names)

    if not nested:
        return lambda item: dict(zip(names, read(item), strict=False))

    def write(item: Any) -> dict[str, Any]:
        found = dict(zip(names, read(item), strict=False))
        for name in nested:
            part = found[name]
            writer = _writers.get(type(part))
            found[name] = _plain(part) if writer is None else writer(part)
        return found

    return write


def _mentions_shape(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, Shape):
        return True
    return any(_mentions_shape(part) for part in getattr(hint, "__args__", ()))


def _plain(value: Any) -> Any:
    """A list of parts as JSON objects; None as it is."""
    return [each.data() for each in value] if isinstance(value, list) else value
