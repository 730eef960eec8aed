"""What the payload of an event is made of: records whose fields, in their order, are the fields of the JSON object.

The record is the one definition of a payload. mypy checks the code that makes one, its fields are written as the JSON object
that is sent, and the catalog builds the published JSON Schema from it. So nothing is validated again when an event is sealed.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar, dataclass_transform, get_args

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

    def values(self) -> tuple[Any, ...]:
        """The values of all fields, in their order. They are read at once, because every event is checked before it is sent."""
        return _readers[type(self)](self)

    def data(self) -> dict[str, Any]:
        """The JSON object. It has every field of the record, with null for None."""
        names = (each.name for each in fields(self))  # type: ignore[arg-type]
        return {name: _plain(value) for name, value in zip(names, self.values(), strict=True)}


class Payload(Shape):
    """Base of what an event says: the `data` of its body. `type` is the name of the event type."""

    __slots__ = ()
    type: ClassVar[str]


S = TypeVar("S", bound=Shape)

_readers: dict[type[Shape], Callable[[Any], tuple[Any, ...]]] = {}


@dataclass_transform(frozen_default=True, kw_only_default=True)
def shape(cls: type[S]) -> type[S]:
    """Makes an immutable record, with two fields or more, of a subclass of `Shape`. All fields are keywords."""
    made = dataclass(slots=True, unsafe_hash=True, kw_only=True)(cls)
    _readers[made] = attrgetter(*(each.name for each in fields(made)))  # type: ignore[arg-type]
    return made


def _plain(value: Any) -> Any:
    """A part, or a list of parts, as JSON objects; everything else as it is."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value.data() if isinstance(value, Shape) else value
