"""One tree of errors. Each class is one way things go wrong; `detail` says what to do about it.

    LoyalProError
    ├── Refused             the caller can mend it
    │   ├── MalformedRequest    not something we can read at all
    │   ├── InvalidInput        readable, but a field is wrong; `param` names it
    │   ├── Unauthenticated     no key, or not one of ours
    │   ├── NotFound            no such object in this account
    │   ├── Conflict            it contradicts what is already there
    │   ├── Expired             it was here, and is no longer kept
    │   └── TooLarge            more bytes than we take
    ├── StoreError          the database could not do it
    │   ├── StoreUnavailable    nothing was written; try again
    │   │   └── DiskFull            there is no room; reading goes on
    │   ├── CommitUnknown       the answer to COMMIT was lost; repeat with the same Idempotency-Key
    │   └── SchemaMismatch      the database is of another version
    ├── LockTaken           a row or table stayed locked for too long; nothing was changed, try again
    └── ConfigurationError  the environment is wrong; the process does not start

The HTTP status of each stands in `web/errors.py`.
"""


class LoyalProError(Exception):
    """Everything that LoyalPro raises on purpose."""

    code = "internal_error"

    def __init__(self, detail: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.param = param
        if code is not None:
            self.code = code


class Refused(LoyalProError):
    """The caller can mend it."""

    code = "refused"


class MalformedRequest(Refused):
    """Not something we can read at all."""

    code = "malformed_request"


class InvalidInput(Refused):
    """A field is wrong; `param` names it, `a.b[0].c` for nested ones."""

    code = "invalid_input"


class Unauthenticated(Refused):
    """No API key, or not one of ours."""

    code = "unauthenticated"


class NotFound(Refused):
    """No such object in this account."""

    code = "not_found"


class Conflict(Refused):
    """It contradicts what is already there."""

    code = "conflict"


class Expired(Refused):
    """It was here, and is no longer kept."""

    code = "expired"


class TooLarge(Refused):
    """More bytes than we take."""

    code = "body_too_large"


class StoreError(LoyalProError):
    """The database could not do it."""

    code = "store_error"


class StoreUnavailable(StoreError):
    """Nothing was written; try again."""

    code = "store_unavailable"


class DiskFull(StoreUnavailable):
    """There is no room to write; reading goes on."""

    code = "disk_full"


class CommitUnknown(StoreError):
    """The answer to COMMIT was lost: it may or may not have happened."""

    code = "commit_unknown"


class SchemaMismatch(StoreError):
    """The database is of another version than this program."""

    code = "schema_mismatch"


class LockTaken(LoyalProError):
    """Another transaction held a lock for longer than this one may wait. Nothing was changed; try again.

    It is no `StoreError`, because the database works: a writer that gets it keeps its connection.
    """

    code = "lock_taken"


class ConfigurationError(LoyalProError):
    """The environment is wrong; the process does not start."""

    code = "configuration_error"
