"""`Idempotency-Key`: the first answer is kept for 24 hours, in the same transaction as its effect."""

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
from fastapi import Request, Response

from loyalpro.kernel.clock import MS_PER_DAY
from loyalpro.kernel.errors import Conflict, InvalidInput, Refused
from loyalpro.kernel.record import record
from loyalpro.storage.database import Lane
from loyalpro.storage.tables.accounts import StoredAnswer
from loyalpro.storage.unit_of_work import UnitOfWork
from loyalpro.web.services import Services, services_of

LONGEST_KEY: Final = 255


@dataclass(frozen=True, slots=True)
class Reply:
    """What a `POST` answers when it takes effect."""

    status_code: int
    content: dict[str, Any]

    @property
    def body(self) -> bytes:
        """In JSON."""
        return msgspec.json.encode(self.content)


Work = Callable[[UnitOfWork], Reply]
WorkTogether = Callable[[UnitOfWork, str, Sequence[Any]], Sequence[Reply | Refused]]
"""Does what several requests of one account ask for; a refusal is the answer to one of them, which has changed nothing."""


@record
class _Asked:
    """What a request wants, and the key under which its answer is kept, if it has one."""

    command: Any
    key: str | None = None
    fingerprint: bytes = b""


@record
class _Answered:
    """An answer, and whether it had been given before."""

    answer: StoredAnswer
    replayed: bool


async def commit(request: Request, account_id: str, work: Work, lane: Lane = "ingest") -> Response:
    """Commit a `POST` and answer it. With a key that was answered before, give that answer again and do nothing."""

    async def change(asked: _Asked) -> _Answered:
        return await services_of(request).transactions.change(
            lambda unit: _only(_answers(unit, account_id, [asked], lambda unit, *_: [work(unit)])), lane
        )

    return await _once(request, account_id, None, change)


async def commit_together(request: Request, account_id: str, command: Any, work: WorkTogether) -> Response:
    """The same, together with whatever else the account wants done by this work at the moment."""

    async def change(asked: _Asked) -> _Answered:
        return await services_of(request).together.change(
            (work, account_id), asked, lambda unit, all_asked: _answers(unit, account_id, all_asked, work)
        )

    return await _once(request, account_id, command, change)


async def answered_before(request: Request, account_id: str) -> Response | None:
    """The answer again, if there is one already: for a `POST` that is judged by what may have changed since."""
    key = _key(request)
    if key is None:
        return None
    asked = _Asked(None, key, await _fingerprint(request))

    def look(unit: UnitOfWork) -> _Answered | Refused | None:
        answers = unit.accounts.answers(account_id, [key], since=unit.now - MS_PER_DAY)
        return _again(unit, account_id, asked, answers[key]) if key in answers else None

    outcome = await services_of(request).transactions.read(look)
    return None if outcome is None else _response(_only([outcome]))


async def _once(
    request: Request, account_id: str, command: Any, change: Callable[[_Asked], Awaitable[_Answered]]
) -> Response:
    key = _key(request)
    if key is None:
        return _response(await change(_Asked(command)))
    with _in_flight(services_of(request), account_id, key):
        return _response(await change(_Asked(command, key, await _fingerprint(request))))


def _key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and (not 1 <= len(key) <= LONGEST_KEY or not key.isascii() or not key.isprintable()):
        raise InvalidInput(
            f"An Idempotency-Key has 1 to {LONGEST_KEY} printable ASCII characters; a UUID does well.",
            code="invalid_idempotency_key",
            param="Idempotency-Key",
        )
    return key


def _answers(
    unit: UnitOfWork, account_id: str, all_asked: Sequence[_Asked], work: WorkTogether
) -> list[_Answered | Refused]:
    """What was answered before is answered so again. The others are done, and their answers kept with what they change."""
    outcomes = _known(unit, account_id, all_asked)
    new = [asked for asked, outcome in zip(all_asked, outcomes, strict=True) if outcome is None]
    replies = work(unit, account_id, [asked.command for asked in new]) if new else []
    done = [_first(asked, reply) for asked, reply in zip(new, replies, strict=True)]
    _keep(unit, account_id, zip(new, done, strict=True))
    rest = iter(done)
    return [next(rest) if outcome is None else outcome for outcome in outcomes]


def _known(unit: UnitOfWork, account_id: str, all_asked: Sequence[_Asked]) -> list[_Answered | Refused | None]:
    """What each is answered without doing anything; None for those that are to be done."""
    keys = [asked.key for asked in all_asked if asked.key is not None]
    held = unit.accounts.hold_idempotency_keys(account_id, keys)
    answers = unit.accounts.answers(account_id, keys, since=unit.now - MS_PER_DAY)

    def outcome(asked: _Asked) -> _Answered | Refused | None:
        if asked.key is None:
            return None
        if asked.key not in held:
            return _still_running()
        held.remove(asked.key)  # whoever comes with it again, while the first one's caller has gone away, has to wait
        answer = answers.get(asked.key)
        return None if answer is None else _again(unit, account_id, asked, answer)

    return [outcome(asked) for asked in all_asked]


def _again(unit: UnitOfWork, account_id: str, asked: _Asked, answer: StoredAnswer) -> _Answered | Refused:
    if answer.fingerprint != asked.fingerprint:
        return InvalidInput(
            "This Idempotency-Key was used for another request in the last 24 hours; use a new key.",
            code="idempotency_key_reused",
            param="Idempotency-Key",
        )
    body = unit.vault.open(answer.body, owner=_owner(account_id, asked.key))
    return _Answered(replace(answer, body=body.encode()), replayed=True)


def _first(asked: _Asked, reply: Reply | Refused) -> _Answered | Refused:
    if isinstance(reply, Refused):
        return reply
    return _Answered(StoredAnswer(asked.fingerprint, reply.status_code, reply.body), replayed=False)


def _keep(unit: UnitOfWork, account_id: str, done: Iterable[tuple[_Asked, _Answered | Refused]]) -> None:
    """Answers are kept sealed: they may hold a signing secret, or what a customer is called."""
    sealed = {
        asked.key: replace(
            outcome.answer, body=unit.vault.seal(outcome.answer.body.decode(), owner=_owner(account_id, asked.key))
        )
        for asked, outcome in done
        if asked.key is not None and isinstance(outcome, _Answered)
    }
    unit.accounts.store_answers(account_id, sealed, unit.now)


def _owner(account_id: str, key: str | None) -> str:
    return f"{account_id}/idempotency/{key}"


def _only(outcomes: Sequence[_Answered | Refused]) -> _Answered:
    [outcome] = outcomes
    if isinstance(outcome, Refused):
        raise outcome
    return outcome


class _in_flight:  # noqa: N801 - reads as the phrase it is: `with _in_flight(...)`
    """Marks a key as being worked on in this process; a second request with it is told so at once."""

    def __init__(self, services: Services, account_id: str, key: str) -> None:
        self._keys = services.keys_in_flight
        self._mine = (account_id, key)

    def __enter__(self) -> None:
        if self._mine in self._keys:
            raise _still_running()
        self._keys.add(self._mine)

    def __exit__(self, *_: object) -> None:
        self._keys.discard(self._mine)


def _still_running() -> Conflict:
    return Conflict(
        "A request with this Idempotency-Key is still being worked on; repeat it in a second.",
        code="idempotency_key_in_flight",
        param="Idempotency-Key",
    )


async def _fingerprint(request: Request) -> bytes:
    target = f"{request.method} {request.url.path}?{request.url.query}\n".encode()
    return hashlib.sha256(target + await request.body()).digest()


def _response(answered: _Answered) -> Response:
    headers = {"Idempotent-Replayed": "true"} if answered.replayed else {}
    return Response(answered.answer.body, answered.answer.status_code, headers, "application/json")
