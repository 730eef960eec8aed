"""Immutable values that are made by the thousand."""

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[T]) -> type[T]:
    """A slotted dataclass that the type checker keeps from being changed.

    `@dataclass(frozen=True)` says the same at run time too, and takes four times as long to make each one.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)
