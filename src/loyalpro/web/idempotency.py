"""`Idempotency-Key`: the first answer is kept for 24 hours, in the same transaction as its effect."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
from fastapi import Request, Response

from loyalpro.kernel.clock import MS_PER_DAY
from loyalpro.kernel.errors import Conflict, InvalidInput
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


Work = Callable[[UnitOfWork], Reply]


async def commit(request: Request, account_id: str, work: Work, lane: Lane = "ingest") -> Response:
    """Commit a `POST` and answer it. With a key that was answered before, give that answer again and do nothing."""
    services = services_of(request)
    key = request.headers.get("idempotency-key")
    if key is None:
        reply = await services.transactions.change(work, lane)
        return _response(reply.status_code, _bytes(reply))
    if not 1 <= len(key) <= LONGEST_KEY or not key.isascii() or not key.isprintable():
        raise InvalidInput(
            f"An Idempotency-Key has 1 to {LONGEST_KEY} printable ASCII characters; a UUID does well.",
            code="invalid_idempotency_key",
            param="Idempotency-Key",
        )
    with _in_flight(services, account_id, key):
        fingerprint = await _fingerprint(request)
        answer, replayed = await services.transactions.change(
            lambda unit: _answer_once(unit, account_id, key, fingerprint, work), lane
        )
    headers = {"Idempotent-Replayed": "true"} if replayed else {}
    return _response(answer.status_code, answer.body, headers)


def _answer_once(
    unit: UnitOfWork, account_id: str, key: str, fingerprint: bytes, work: Work
) -> tuple[StoredAnswer, bool]:
    """The answer is kept sealed: it may hold a signing secret, or what a customer is called."""
    owner = f"{account_id}/idempotency/{key}"
    if not unit.accounts.hold_idempotency_key(account_id, key):
        raise _still_running()
    known = unit.accounts.answer(account_id, key, since=unit.now - MS_PER_DAY)
    if known is not None:
        if known.fingerprint != fingerprint:
            raise InvalidInput(
                "This Idempotency-Key was used for another request in the last 24 hours; use a new key.",
                code="idempotency_key_reused",
                param="Idempotency-Key",
            )
        return replace(known, body=unit.vault.open(known.body, owner=owner).encode()), True
    reply = work(unit)
    answer = StoredAnswer(fingerprint, reply.status_code, _bytes(reply))
    sealed = replace(answer, body=unit.vault.seal(answer.body.decode(), owner=owner))
    unit.accounts.store_answer(account_id, key, sealed, unit.now)
    return answer, False


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


def _bytes(reply: Reply) -> bytes:
    return msgspec.json.encode(reply.content)


def _response(status_code: int, body: bytes, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status_code, headers, "application/json")
