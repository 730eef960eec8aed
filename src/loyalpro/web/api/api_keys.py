"""`/v1/api_keys`: the keys of the account."""

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from loyalpro.accounts import api_keys
from loyalpro.accounts.entities import ApiKey
from loyalpro.accounts.scopes import SCOPES
from loyalpro.kernel.clock import UnixMs, rfc3339
from loyalpro.web.answers import Actor, Count, KeyId, Page, Time, answers
from loyalpro.web.auth import AccountId, Caller
from loyalpro.web.fields import Body, Cursor, Instant, Limit, ShortText, known_id, page
from loyalpro.web.idempotency import Reply, commit
from loyalpro.web.services import ServicesDep
from loyalpro.web.strict_route import StrictRoute
from loyalpro.web.unit import Unit

router = APIRouter(
    prefix="/v1/api_keys", tags=["API keys"], route_class=StrictRoute.needing(read="admin", write="admin")
)


class KeyView(TypedDict):
    """An API key without its text."""

    id: KeyId
    name: str
    hint: str
    scopes: list[str]
    requests_per_minute: Count | None
    status: str
    created_at: Time
    created_by: Actor
    expires_at: Time | None
    last_used_at: Time | None
    revoked_at: Time | None


class NewKeyView(KeyView):
    """A new API key. `key` is its text, which no other response has."""

    key: str


class CreateApiKey(Body):
    """A key to create. It can do at most what the key can do that creates it."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "till", "scopes": ["read", "transactions"]}]})

    name: ShortText
    scopes: Annotated[list[str], Field(min_length=1, max_length=50, description=f"Some of {', '.join(SCOPES)}.")]
    expires_at: Annotated[Instant | None, Field(description="The key is refused from then on. Default: never.")] = None
    requests_per_minute: Annotated[
        int | None,
        Field(ge=1, le=api_keys.MAX_REQUESTS_PER_MINUTE, description="For each server process. Default: no limit."),
    ] = None


class RenameApiKey(Body):
    """The new name of a key."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "till 2"}]})

    name: ShortText


@router.post("", status_code=201, summary="Create an API key", responses=answers(NewKeyView, 201))
async def create(request: Request, account_id: AccountId, caller: Caller, body: CreateApiKey) -> Response:
    """The response contains the text of the key, which no other call shows."""
    command = api_keys.CreateKey(
        account_id, body.name, body.scopes, body.expires_at, body.requests_per_minute, creator=caller
    )
    api_keys.require_grantable(command)  # a stored response may contain a key that this caller may not create

    def reply_to(unit: Unit) -> Reply:
        created = api_keys.create_key(unit, command)
        return Reply(201, key_view(created.key, unit.now) | {"key": created.api_key})

    return await commit(request, account_id, reply_to)


@router.get("", summary="List API keys, newest first")
async def list_api_keys(
    account_id: AccountId, services: ServicesDep, limit: Limit = 20, cursor: Cursor = None
) -> Page[KeyView]:
    """One page of the account's keys, expired and revoked ones too, without their texts."""
    before_id = known_id("key", cursor, param="cursor") if cursor else None
    query = api_keys.ListKeys(account_id, before_id, limit + 1)
    found = await services.runner.read(lambda unit: api_keys.list_keys(unit, query))
    return page([key_view(each, services.clock.now_ms()) for each in found], limit)


@router.get("/{key_id}", summary="Get an API key")
async def get(account_id: AccountId, services: ServicesDep, key_id: str) -> KeyView:
    """One key, without its text."""
    query = api_keys.KeyRef(account_id, known_id("key", key_id))
    found = await services.runner.read(lambda unit: api_keys.get_key(unit, query))
    return key_view(found, services.clock.now_ms())


@router.patch("/{key_id}", summary="Rename an API key")
async def rename(
    account_id: AccountId, caller: Caller, services: ServicesDep, key_id: str, body: RenameApiKey
) -> KeyView:
    """What a key may do never changes: create another one, and revoke this one."""
    command = api_keys.RenameKey(account_id, known_id("key", key_id), body.name)
    renamed = await services.runner.change(lambda unit: api_keys.rename_key(unit, command), actor=caller.actor)
    return key_view(renamed, services.clock.now_ms())


@router.delete("/{key_id}", summary="Revoke an API key")
async def revoke(account_id: AccountId, caller: Caller, services: ServicesDep, key_id: str) -> KeyView:
    """Every request that begins after the response is refused, on every server. A revoked key stays visible.

    The only usable key with the scope `admin` cannot be revoked here.
    """
    command = api_keys.RevokeKey(account_id, known_id("key", key_id))
    revoked = await services.runner.change(
        lambda unit: api_keys.revoke_key(unit, command), "control", actor=caller.actor
    )
    return key_view(revoked, services.clock.now_ms())


def key_view(key: ApiKey, now: UnixMs) -> KeyView:
    """A key in JSON, without its text."""
    return {
        "id": key.id,
        "name": key.name,
        "hint": key.hint,
        "scopes": list(key.scopes),
        "requests_per_minute": key.requests_per_minute,
        "status": key.status(now),
        "created_at": rfc3339(key.created_at),
        "created_by": key.created_by,
        "expires_at": _time(key.expires_at),
        "last_used_at": _time(key.last_used_at),
        "revoked_at": _time(key.revoked_at),
    }


def _time(instant: UnixMs | None) -> str | None:
    return None if instant is None else rfc3339(instant)
