"""The values of accounts."""

from dataclasses import dataclass, field
from typing import Any, Literal

from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.record import record


@dataclass(frozen=True, slots=True)
class FirstAccount:
    """The account that was opened first. `has_key` is True for a revoked key, too."""

    id: str
    has_key: bool
    has_owner: bool


@record
class Account:
    """A merchant's account. `keys`: how many of its API keys are not revoked."""

    id: str
    name: str
    created_at: UnixMs
    keys: int


KeyStatus = Literal["active", "expired", "revoked"]


@record
class ApiKey:
    """An API key without its text. `hint`: the last four characters of the text.

    `created_by`: the actor that created it. `requests_per_minute`: None for no limit. `last_used_at`: the beginning of the hour
    in which it was last used; None while it has not been used.
    """

    id: str
    account_id: str
    name: str
    hint: str
    scopes: tuple[str, ...]
    requests_per_minute: int | None
    created_at: UnixMs
    created_by: str
    expires_at: UnixMs | None
    last_used_at: UnixMs | None
    revoked_at: UnixMs | None

    @property
    def actor(self) -> str:
        """How changes that are made with this key name their actor."""
        return f"key:{self.id}"

    def status(self, now: UnixMs) -> KeyStatus:
        """Whether the key can be used at `now`, or why not."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"


@record
class AuditEntry:
    """One request that changed something: its actor, the action, such as `api_key.revoked`, and the id of what was changed.

    `request_id` and `address`: the request and where it came from; None for a periodic job. `changes`: the values before and
    after, or what a batch consisted of. Of personal data it has the names of the fields only.
    """

    id: str
    account_id: str
    actor: str
    action: str
    object_id: str
    created_at: UnixMs
    request_id: str | None
    address: str | None
    changes: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """The response to a request with an idempotency key. `fingerprint` identifies the request, `body` is JSON."""

    fingerprint: bytes
    status_code: int
    body: bytes = field(repr=False)
