"""The tree of errors. Each class is one kind of failure; `detail` tells the caller or the operator what to do.

    LoyalProError
    ├── Refused             the request is wrong; the caller can correct it
    │   ├── MalformedRequest    the body cannot be parsed
    │   ├── InvalidInput        a field is wrong; `param` names it
    │   ├── Unauthenticated     the API key is missing or unknown
    │   ├── Forbidden           the API key may not do this
    │   ├── RateLimited         the API key made too many requests; try again after `retry_after_s`
    │   ├── NotFound            the account has no such object
    │   ├── Conflict            the request contradicts the current state
    │   ├── PreconditionFailed  the object has changed since the version that the request names
    │   ├── Expired             the object existed, and is no longer kept
    │   ├── TooLarge            the request has too many bytes or values
    │   └── TooSlow             the request did not arrive in time
    ├── StoreError          the database failed
    │   ├── StoreUnavailable    nothing was written; try again
    │   │   └── DiskFull            no space for writes; reads still work
    │   ├── CommitUnknown       the answer to COMMIT was lost; repeat with the same Idempotency-Key
    │   └── SchemaMismatch      the schema does not fit this version of the program
    ├── NameNotLookedUp     there was no time to look up a host name; try again
    ├── LockTaken           a row or table stayed locked for too long; nothing was changed, try again
    └── ConfigurationError  a setting is wrong; the process does not start

`web/errors.py` maps each class to an HTTP status.
"""

from collections.abc import Mapping


class LoyalProError(Exception):
    """The base of every error that LoyalPro raises on purpose.

    `code` is stable, for programs. `detail` is a text for people. `param` names the wrong field, if there is one. `facts`:
    what a program needs of the detail, such as the points that are available; the response has each as a member of its own.
    """

    code = "internal_error"

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        param: str | None = None,
        facts: Mapping[str, int | str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.param = param
        self.facts = dict(facts or {})
        if code is not None:
            self.code = code


class Refused(LoyalProError):
    """The request is wrong; the caller can correct it."""

    code = "refused"


class MalformedRequest(Refused):
    """The body cannot be parsed."""

    code = "malformed_request"


class InvalidInput(Refused):
    """A field is wrong; `param` names it, in the form `a.b[0].c` when it is nested."""

    code = "invalid_input"


class Unauthenticated(Refused):
    """The API key is missing or unknown."""

    code = "unauthenticated"


class Forbidden(Refused):
    """The API key may not do this."""

    code = "forbidden"


class RateLimited(Refused):
    """The API key, or whoever tries to sign in, made too many requests.

    `retry_after_s`: after how many whole seconds the next one is accepted.
    """

    code = "rate_limited"

    def __init__(self, detail: str, *, code: str | None = None, retry_after_s: int = 1) -> None:
        super().__init__(detail, code=code)
        self.retry_after_s = retry_after_s


class NotFound(Refused):
    """The account has no such object."""

    code = "not_found"


class Conflict(Refused):
    """The request contradicts the current state."""

    code = "conflict"


class PreconditionFailed(Refused):
    """The object has changed since the version that the request names in `If-Match`."""

    code = "precondition_failed"


class Expired(Refused):
    """The object existed, and is no longer kept."""

    code = "expired"


class TooLarge(Refused):
    """The request has too many bytes or values."""

    code = "body_too_large"


class TooSlow(Refused):
    """The request did not arrive in time."""

    code = "body_timeout"


class StoreError(LoyalProError):
    """The database failed."""

    code = "store_error"


class StoreUnavailable(StoreError):
    """The database is not available. Nothing was written; try again."""

    code = "store_unavailable"


class DiskFull(StoreUnavailable):
    """The disk of the database has no space for writes. Reads still work."""

    code = "disk_full"


class CommitUnknown(StoreError):
    """The answer to COMMIT was lost: the change may or may not have taken effect."""

    code = "commit_unknown"


class SchemaMismatch(StoreError):
    """The schema of the database does not fit this version of the program."""

    code = "schema_mismatch"


class LockTaken(LoyalProError):
    """Another transaction held a lock for longer than this one may wait. Nothing was changed; try again.

    It is not a `StoreError`: the database works, so a writer keeps its connection.
    """

    code = "lock_taken"


class NameNotLookedUp(LoyalProError):
    """A host name could not be looked up in time, so nothing was decided about its addresses. Try again."""

    code = "name_not_looked_up"


class ConfigurationError(LoyalProError):
    """A setting of LoyalPro or of the database server is wrong; the process does not start."""

    code = "configuration_error"
