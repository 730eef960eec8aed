"""The origin of a change: the API request that caused it, so that it is found again from a purchase to its deliveries."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Origin:
    """A request: its id, the W3C trace context that its caller has sent, and the address that it came from.

    `events`: the ids of the events that it has caused, in the order of their commits.
    """

    request_id: str
    traceparent: str | None = None
    address: str | None = None
    events: list[str] = field(default_factory=list)


_CURRENT: ContextVar[Origin | None] = ContextVar("origin", default=None)


def current_origin() -> Origin | None:
    """The request that the running task answers; None in a periodic job and in the engine."""
    return _CURRENT.get()


@contextmanager
def caused_by(origin: Origin) -> Iterator[None]:
    """What the running task changes inside this context has this origin."""
    token = _CURRENT.set(origin)
    try:
        yield
    finally:
        _CURRENT.reset(token)
