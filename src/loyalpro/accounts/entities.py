"""The values of accounts."""

from dataclasses import dataclass, field
from typing import Any, Literal

from loyalpro.accounts.roles import Role
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


Theme = Literal["system", "light", "dark"]
"""The colors of the dashboard; `system` follows the browser."""


@record
class Person:
    """A person who can sign in to the dashboard. `time_zone`: an IANA name; None for that of the browser.

    `shortcuts`: whether single keys do something. `has_second_factor`: whether a sign-in asks for a code as well.
    """

    id: str
    email: str
    name: str
    time_zone: str | None
    theme: Theme
    shortcuts: bool
    has_second_factor: bool
    created_at: UnixMs

    @property
    def actor(self) -> str:
        """How changes that the person makes name their actor."""
        return f"person:{self.id}"


@record
class Membership:
    """That a person belongs to an account, with a role. `last_seen_at`: to the minute; None before the first use.

    `requires_second_factor`: whether the account requires one of its members. `support_points_limit`: how many points support
    may give or take at once; None for no limit.
    """

    account_id: str
    account_name: str
    person_id: str
    role: Role
    created_at: UnixMs
    last_seen_at: UnixMs | None
    requires_second_factor: bool
    support_points_limit: int | None

    @property
    def points_limit(self) -> int | None:
        """How many points this member may give or take at once; None for no limit."""
        return self.support_points_limit if self.role == "support" else None


@record
class Member:
    """A member of an account, as its owners see it."""

    person: Person
    role: Role
    created_at: UnixMs
    last_seen_at: UnixMs | None


@record
class WebSession:
    """A browser that a person has signed in with, in one account.

    `used_at`: the last use, to the minute. `proved_at`: when the person last gave a password or a code. `awaits_code`: the
    password was right, and the code of the second factor is missing. `address`, `user_agent`: those of the sign-in.
    """

    id: str
    person_id: str
    account_id: str
    created_at: UnixMs
    used_at: UnixMs
    proved_at: UnixMs
    awaits_code: bool
    address: str | None
    user_agent: str | None


@record
class SignedIn:
    """Who makes a request: the web session, its person, and the membership in its account. `others`: in other accounts."""

    session: WebSession
    person: Person
    membership: Membership
    others: tuple[Membership, ...]

    @property
    def actor(self) -> str:
        """How changes that the request makes name their actor."""
        return self.person.actor

    @property
    def owes_second_factor(self) -> bool:
        """Whether the person has to set up a second factor before anything else."""
        return self.membership.requires_second_factor and not self.person.has_second_factor


@record
class Credentials:
    """A person with the hash of the password."""

    person: Person
    password_hash: str = field(repr=False)


@record
class Invitation:
    """Lets the one who has its link join an account. `note`: for whom it is. It ends when it is used."""

    id: str
    account_id: str
    role: Role
    note: str
    created_by: str
    created_at: UnixMs
    expires_at: UnixMs


@record
class Tries:
    """What is remembered of the tries to sign in that have one key, such as one e-mail address.

    `recent`: the instants of the last minute's tries. `blocks`: how many waits there were in succession. `blocked_until`: the
    end of the last one; 0 before the first.
    """

    recent: tuple[UnixMs, ...] = ()
    blocks: int = 0
    blocked_until: UnixMs = 0


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
