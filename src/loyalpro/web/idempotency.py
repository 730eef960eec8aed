"""`Idempotency-Key`: the response to a request is stored for 24 hours, in the database transaction of its effect."""

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from fastapi import Request, Response

from loyalpro.accounts.entities import StoredResponse
from loyalpro.kernel.clock import MS_PER_DAY
from loyalpro.kernel.errors import Conflict, InvalidInput, Refused
from loyalpro.kernel.iteration import pull
from loyalpro.kernel.record import record
from loyalpro.kernel.unit_of_work import WriterName
from loyalpro.web.auth import key_of
from loyalpro.web.services import Services, services_of
from loyalpro.web.unit import Unit

LONGEST_KEY: Final = 255
_FORM_LOOKS: Final = 100
_FORM_WAIT_S: Final = 0.1
_SIMILAR_TO_KEY: Final = re.compile(r"idem?p[oe]?te?n|idempot|i[dm]+potency")


@dataclass(frozen=True, slots=True)
class Reply:
    """The response to a `POST` that takes effect."""

    status_code: int
    content: Mapping[str, object]

    @property
    def body(self) -> bytes:
        """The content in JSON."""
        return msgspec.json.encode(self.content)


ReplyTo = Callable[[Unit], Reply | Refused]
"""Runs the command of a request. A `Refused` that it returns is committed with what it changed; one that it raises is not."""
ReplyToAll = Callable[[Unit, str, Sequence[Any]], Sequence[Reply | Refused]]
"""Runs the commands of several requests of one account. `Refused` in place of a reply: the request is refused."""


@record
class IdempotentRequest:
    """The command of a request. `key` is None without an `Idempotency-Key`; `fingerprint` identifies the request."""

    command: Any
    key: str | None = None
    fingerprint: bytes = b""


@record
class IdempotentResult:
    """The result of a request. `replayed`: the response is the stored one of an earlier request."""

    response: StoredResponse
    replayed: bool


async def commit(request: Request, account_id: str, reply_to: ReplyTo, writer: WriterName = "ingest") -> Response:
    """Commit a `POST` and respond. A request whose key has a stored response gets that response, and changes nothing."""
    services, actor = services_of(request), key_of(request).actor

    async def change(incoming: IdempotentRequest) -> IdempotentResult:
        return await _change(services, account_id, actor, incoming, reply_to, writer)

    return await _respond(request, account_id, None, change)


async def commit_form(
    services: Services,
    account_id: str,
    incoming: IdempotentRequest,
    reply_to: ReplyTo,
    writer: WriterName = "ingest",
    *,
    actor: str,
) -> IdempotentResult:
    """Commit what a form asks for. `incoming.key`: the one-time key that the form was rendered with.

    A form that is sent twice at once waits for the first: a browser shows the answer to its last request only.
    """
    key = incoming.key
    if key is None:
        return await _change(services, account_id, actor, incoming, reply_to, writer)
    for _ in range(_FORM_LOOKS):
        if (account_id, key) not in services.keys_in_flight:
            break
        await services.clock.wait(asyncio.Event(), _FORM_WAIT_S)
    with _in_flight(services, account_id, key):
        return await _change(services, account_id, actor, incoming, reply_to, writer)


async def _change(
    services: Services, account_id: str, actor: str, incoming: IdempotentRequest, reply_to: ReplyTo, writer: WriterName
) -> IdempotentResult:
    outcomes = await services.runner.change(
        lambda unit: run_once(unit, account_id, [incoming], lambda unit, *_: [reply_to(unit)]), writer, actor=actor
    )
    return _only(outcomes)


async def commit_batched(request: Request, account_id: str, command: Any, reply_to_all: ReplyToAll) -> Response:
    """`commit`, in one database transaction with concurrent requests with the key that have the same `reply_to_all`."""

    async def change(incoming: IdempotentRequest) -> IdempotentResult:
        outcome: IdempotentResult = await services_of(request).batcher.change(
            (reply_to_all, account_id),
            incoming,
            lambda unit, requests: run_once(unit, account_id, requests, reply_to_all),
            actor=key_of(request).actor,
        )
        return outcome

    return await _respond(request, account_id, command, change)


async def stored_response(request: Request, account_id: str) -> Response | None:
    """The stored response to this request, or None: for a `POST` whose checks may have another result later, such as DNS."""
    key = _key(request)
    if key is None:
        return None
    incoming = IdempotentRequest(None, key, await fingerprint(request))

    def look(unit: Unit) -> IdempotentResult | Refused | None:
        stored = unit.idempotency.responses(account_id, [key], since=unit.now - MS_PER_DAY)
        return _repeated(incoming, stored[key]) if key in stored else None

    outcome = await services_of(request).runner.read(look)
    return None if outcome is None else _response(_only([outcome]))


def run_once(
    unit: Unit, account_id: str, requests: Sequence[IdempotentRequest], reply_to_all: ReplyToAll
) -> list[IdempotentResult | Refused]:
    """The outcome of each request: its stored response if it has one. The others are run, and their responses are stored."""
    outcomes = _stored(unit, account_id, requests)
    new = [incoming for incoming, outcome in zip(requests, outcomes, strict=True) if outcome is None]
    replies = reply_to_all(unit, account_id, [incoming.command for incoming in new]) if new else []
    done = [_first(incoming, reply) for incoming, reply in zip(new, replies, strict=True)]
    _store(unit, account_id, zip(new, done, strict=True))
    rest = iter(done)
    return [pull(rest) if outcome is None else outcome for outcome in outcomes]


async def _respond(
    request: Request, account_id: str, command: Any, change: Callable[[IdempotentRequest], Awaitable[IdempotentResult]]
) -> Response:
    key = _key(request)
    if key is None:
        return _response(await change(IdempotentRequest(command)))
    with _in_flight(services_of(request), account_id, key):
        return _response(await change(IdempotentRequest(command, key, await fingerprint(request))))


def _key(request: Request) -> str | None:
    """The key of the request. A header that is called almost so is refused: a repetition would take effect again."""
    keys = request.headers.getlist("idempotency-key")
    if len(keys) > 1:
        raise InvalidInput("Send one Idempotency-Key.", code="invalid_idempotency_key", param="Idempotency-Key")
    key = keys[0] if keys else None
    if key is None:
        _refuse_similar(request.headers.keys())
    if key is not None and (not 1 <= len(key) <= LONGEST_KEY or not key.isascii() or not key.isprintable()):
        raise InvalidInput(
            f"An Idempotency-Key has 1 to {LONGEST_KEY} printable ASCII characters; a UUID is a good choice.",
            code="invalid_idempotency_key",
            param="Idempotency-Key",
        )
    return key


def _refuse_similar(names: Iterable[str]) -> None:
    for name in names:
        if _SIMILAR_TO_KEY.search(name):
            raise InvalidInput(
                f"There is no header {name[:64]!r}. Did you mean Idempotency-Key?",
                code="unknown_header",
                param=name[:64],
            )


def _stored(
    unit: Unit, account_id: str, requests: Sequence[IdempotentRequest]
) -> list[IdempotentResult | Refused | None]:
    """The outcome of each request that must not be run; None for each that must."""
    keys = [incoming.key for incoming in requests if incoming.key is not None]
    locked = unit.idempotency.lock(account_id, keys)
    stored = unit.idempotency.responses(account_id, keys, since=unit.now - MS_PER_DAY)

    def outcome(incoming: IdempotentRequest) -> IdempotentResult | Refused | None:
        if incoming.key is None:
            return None
        if incoming.key not in locked:
            return _still_running()
        locked.remove(incoming.key)  # a second request of the batch with this key is refused as still running
        response = stored.get(incoming.key)
        return None if response is None else _repeated(incoming, response)

    return [outcome(incoming) for incoming in requests]


def _repeated(incoming: IdempotentRequest, response: StoredResponse) -> IdempotentResult | Refused:
    if response.fingerprint != incoming.fingerprint:
        return InvalidInput(
            "This Idempotency-Key was used for another request in the last 24 hours; use a new key.",
            code="idempotency_key_reused",
            param="Idempotency-Key",
        )
    return IdempotentResult(response, replayed=True)


def _first(incoming: IdempotentRequest, reply: Reply | Refused) -> IdempotentResult | Refused:
    if isinstance(reply, Refused):
        return reply
    return IdempotentResult(StoredResponse(incoming.fingerprint, reply.status_code, reply.body), replayed=False)


def _store(unit: Unit, account_id: str, done: Iterable[tuple[IdempotentRequest, IdempotentResult | Refused]]) -> None:
    responses = {
        incoming.key: outcome.response
        for incoming, outcome in done
        if incoming.key is not None and isinstance(outcome, IdempotentResult)
    }
    unit.idempotency.store(account_id, responses, unit.now)


def _only(outcomes: Sequence[IdempotentResult | Refused]) -> IdempotentResult:
    [outcome] = outcomes
    if isinstance(outcome, Refused):
        raise outcome
    return outcome


@contextmanager
def _in_flight(services: Services, account_id: str, key: str) -> Iterator[None]:
    """Mark a key as in use in this process; a second request with it is refused at once."""
    used = (account_id, key)
    if used in services.keys_in_flight:
        raise _still_running()
    services.keys_in_flight.add(used)
    try:
        yield
    finally:
        services.keys_in_flight.discard(used)


def _still_running() -> Conflict:
    return Conflict(
        "A request with this Idempotency-Key is still running; repeat it in a second.",
        code="idempotency_key_in_flight",
        param="Idempotency-Key",
    )


async def fingerprint(request: Request) -> bytes:
    """What identifies a request: its method, its target and its body."""
    target = f"{request.method} {request.url.path}?{request.url.query}\n".encode()
    body = await request.body()
    return await services_of(request).heavy_work.run_for(len(body), lambda: hashlib.sha256(target + body).digest())


def _response(outcome: IdempotentResult) -> Response:
    headers = {"Idempotent-Replayed": "true"} if outcome.replayed else {}
    return Response(outcome.response.body, outcome.response.status_code, headers, "application/json")
