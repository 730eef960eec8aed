"""The values of accounts."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class FirstAccount:
    """The account that was opened first. `has_key` is True for a revoked key, too."""

    id: str
    has_key: bool
    has_owner: bool


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """The response to a request with an idempotency key. `fingerprint` identifies the request, `body` is JSON."""

    fingerprint: bytes
    status_code: int
    body: bytes = field(repr=False)
