"""`/v1/program`: the rules by which customers earn points, keep them, and move between tiers; and their versions."""

import re
from dataclasses import asdict
from typing import Annotated, Any, Final, cast

from fastapi import APIRouter, Header, Query, Response
from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from loyalpro.kernel.clock import rfc3339
from loyalpro.kernel.errors import NotFound
from loyalpro.loyalty import program_changes
from loyalpro.loyalty.program import ProgramVersion
from loyalpro.web.answers import Actor, Count, Page, PointCount, Time
from loyalpro.web.auth import AccountId, Caller
from loyalpro.web.documents.program import Currency, ProgramContent, program_content, program_draft
from loyalpro.web.fields import Body, Description, Limit
from loyalpro.web.previews import previewed
from loyalpro.web.services import Services, ServicesDep
from loyalpro.web.strict_route import StrictRoute

_LONGEST_VERSION: Final = 15
_VERSION: Final = re.compile(r"(?:W/)?\"(\d{1,15})\"", re.ASCII)

router = APIRouter(prefix="/v1/program", tags=["program"], route_class=StrictRoute.needing(write="program"))


class MadeView(TypedDict):
    """What made a version of the program, when and why."""

    version: Count
    note: str | None
    actor: Actor
    created_at: Time


class ProgramView(ProgramContent):
    """A version of the program."""

    version: Count
    note: str | None
    actor: Actor
    created_at: Time


class MovedView(TypedDict):
    """How many customers would come to a tier from another one."""

    tier: Annotated[str, Field(examples=["Gold"])]
    customers: Count


class EffectView(TypedDict):
    """What the change would have done to the purchases since a time."""

    since: Time
    purchases: Count
    is_truncated: bool
    points_before: PointCount
    points_after: PointCount
    customers: Count
    customers_up: Count
    customers_down: Count
    moved_to: list[MovedView]


class PreviewView(TypedDict):
    """A change that is not made, and its effect."""

    dry_run: bool
    program: ProgramContent
    effect: EffectView


class ProgramPatch(Body):
    """A JSON Merge Patch (RFC 7396) of the program: objects are merged, lists are replaced, null sets the default."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"earning": {"rounding": "half_up", "max_points_per_day": 5_000}, "note": "Half points count"},
                {"expiry": {"kind": "months", "n": 24, "until": "year"}},
            ]
        }
    )

    currency: Currency | None = None
    time_zone: str | None = None
    earning: dict[str, Any] | None = None
    expiry: dict[str, Any] | None = None
    pending: dict[str, Any] | None = None
    refunds: dict[str, Any] | None = None
    tiers: list[dict[str, Any]] | None = None
    tiering: dict[str, Any] | None = None
    point_value: str | None = None
    note: Description | None = None


DryRun = Annotated[bool, Query(description="Make no change; the response tells the effect on the last 30 days.")]
IfMatch = Annotated[str | None, Header(description="The `ETag` of the version that is to be changed.", max_length=256)]


@router.get("", summary="Get the program")
async def get(account_id: AccountId, services: ServicesDep, response: Response) -> ProgramView:
    """The version in force. Its number is in `version`, and in the header `ETag`."""
    query = program_changes.GetProgram(account_id)
    found = await services.runner.read(lambda unit: program_changes.get_program(unit, query))
    return _with_etag(response, found)


@router.patch("", summary="Change the program")
async def update(
    account_id: AccountId,
    caller: Caller,
    services: ServicesDep,
    response: Response,
    body: ProgramPatch,
    *,
    dry_run: DryRun = False,
    if_match: IfMatch = None,
) -> ProgramView | PreviewView:
    """Makes the next version, if anything changes. Purchases that are recorded already keep what they earned."""
    patch = {name: getattr(body, name) for name in body.model_fields_set}
    command = program_changes.ChangeProgram(
        account_id, lambda current: program_draft(current, patch), _versions(if_match)
    )
    if dry_run:
        return await _previewed(services, command)
    changed = await services.runner.change(
        lambda unit: program_changes.change_program(unit, command), actor=caller.actor
    )
    return _with_etag(response, changed)


@router.get("/versions", summary="List the versions of the program, newest first")
async def versions(
    account_id: AccountId,
    services: ServicesDep,
    limit: Limit = 20,
    cursor: Annotated[str | None, Query(max_length=15, description="`next_cursor` of the previous page.")] = None,
) -> Page[MadeView]:
    """What made each version, when and why."""
    before = None if cursor is None else _number(cursor, param="cursor")
    query = program_changes.ListVersions(account_id, before, limit + 1)
    found = await services.runner.read(lambda unit: program_changes.list_versions(unit, query))
    shown = [_made(each) for each in found[:limit]]
    return {"data": shown, "next_cursor": str(shown[-1]["version"]) if len(found) > limit else None}


@router.get("/versions/{version}", summary="Get a version of the program")
async def get_version(account_id: AccountId, services: ServicesDep, version: str) -> ProgramView:
    """The rules and tiers that were in force with it."""
    query = program_changes.GetProgram(account_id, _number(version, param="version"))
    return _shown(await services.runner.read(lambda unit: program_changes.get_program(unit, query)))


async def _previewed(services: Services, command: program_changes.ChangeProgram) -> PreviewView:
    preview = await previewed(services, command)
    effect = asdict(preview.effect) | {"since": rfc3339(preview.effect.since)}
    return {"dry_run": True, "program": program_content(preview.after), "effect": cast("EffectView", effect)}


def _versions(if_match: str | None) -> frozenset[int] | None:
    """The versions that an `If-Match` accepts; None for every one."""
    if if_match is None or if_match.strip() == "*":
        return None
    return frozenset(int(number) for number in _VERSION.findall(if_match))


def _number(text: str, *, param: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > _LONGEST_VERSION:
        raise NotFound(f"{text[:64]!r} is not the number of a version.", param=param)
    return int(text)


def _with_etag(response: Response, version: ProgramVersion) -> ProgramView:
    response.headers["ETag"] = f'"{version.version}"'
    return _shown(version)


def _shown(version: ProgramVersion) -> ProgramView:
    return {"version": version.version, **program_content(version), **_made(version)}


def _made(version: ProgramVersion) -> MadeView:
    return {
        "version": version.version,
        "note": version.note,
        "actor": version.actor,
        "created_at": rfc3339(version.created_at),
    }
