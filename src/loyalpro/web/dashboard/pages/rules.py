"""Program > Rules and tiers: what the program says, a change with its effect before it is saved, and every version."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Path, Query, Request, Response

from loyalpro.accounts.roles import ROLES
from loyalpro.kernel.errors import InvalidInput, NotFound, Refused
from loyalpro.kernel.record import record
from loyalpro.loyalty.campaigns import ListCampaigns, list_campaigns
from loyalpro.loyalty.program import ProgramVersion
from loyalpro.loyalty.program_changes import (
    ChangeProgram,
    GetProgram,
    ListVersions,
    change_program,
    get_program,
    list_versions,
)
from loyalpro.loyalty.program_preview import Effect
from loyalpro.web.dashboard import rule_words
from loyalpro.web.dashboard.actors import names_of
from loyalpro.web.dashboard.amounts import change
from loyalpro.web.dashboard.forms import Form, SentForm, blank, commit, refused
from loyalpro.web.dashboard.render import page, redirect
from loyalpro.web.dashboard.routes import PageRoute
from loyalpro.web.dashboard.rule_forms import (
    RULE_FIELDS,
    SETTINGS_FIELDS,
    conversion_of,
    rule_form,
    rule_of,
    rule_param,
    rules_patch,
    settings_form,
    settings_of,
    tier_places,
    tiers_form,
    tiers_of,
)
from loyalpro.web.dashboard.visits import Visit, Visitor
from loyalpro.web.documents.program import program_content, program_draft
from loyalpro.web.errors import status_of
from loyalpro.web.previews import previewed
from loyalpro.web.services import Services, ServicesDep
from loyalpro.web.unit import Unit

PATH: Final = "/rules"
NEW: Final = "new"
_VERSIONS: Final = 20
_SHOWN_VERSIONS: Final = 5
_CAMPAIGNS: Final = 50
_LONGEST_PATCH: Final = 128 * 1024
_LONGEST_NOTE: Final = 255

RuleId = Annotated[str, Path(max_length=64)]
VersionNumber = Annotated[int, Path(ge=1, le=10**15)]

router = APIRouter(route_class=PageRoute)


@router.get(PATH, name="rules")
async def show(request: Request, visitor: Visitor, services: ServicesDep) -> Response:
    """The rules in force, each in a sentence; the tiers, the campaigns and the newest versions."""
    account_id = visitor.account_id

    def look(unit: Unit) -> dict[str, Any]:
        versions = list_versions(unit, ListVersions(account_id, None, _SHOWN_VERSIONS))
        return {
            "program": get_program(unit, GetProgram(account_id)),
            "versions": versions,
            "names": names_of(unit, account_id, [each.actor for each in versions]),
            "campaigns": list_campaigns(unit, ListCampaigns(account_id, None, None, _CAMPAIGNS)),
        }

    found = await services.runner.read(look)
    return page(
        request,
        "rules/rules.html",
        title="Rules and tiers",
        may_change="rules.change" in ROLES[visitor.member.membership.role],
        **found,
        **sentences(found["program"]),
    )


def sentences(version: ProgramVersion) -> dict[str, Any]:
    """What a template says of a version."""
    rules = version.rules
    tiers = {each.id: each.name for each in version.tiers}
    return {
        "rule_sentences": [(each, rule_words.rule_sentence(each, rules.currency)) for each in rules.earning.rules],
        "tier_sentences": [
            (each, rule_words.tier_sentence(each, rules.tiering, rules.currency)) for each in version.tiers
        ],
        "settings": rule_words.settings(version),
        "campaign_words": lambda each: rule_words.campaign_sentence(each, rules.currency, tiers),
    }


# -- versions --------------------------------------------------------------------------------------------------------------


@router.get(f"{PATH}/versions", name="rules.versions")
async def versions(
    request: Request,
    visitor: Visitor,
    services: ServicesDep,
    before: Annotated[int | None, Query(ge=1, le=10**15)] = None,
) -> Response:
    """Every version, newest first: when it was made, by whom and why."""
    account_id = visitor.account_id

    def look(unit: Unit) -> dict[str, Any]:
        found = list_versions(unit, ListVersions(account_id, before, _VERSIONS + 1))
        return {"versions": found, "names": names_of(unit, account_id, [each.actor for each in found])}

    found = await services.runner.read(look)
    more = len(found["versions"]) > _VERSIONS
    found["versions"] = found["versions"][:_VERSIONS]
    older = f"{PATH}/versions?before={found['versions'][-1].version}" if more else None
    newest = f"{PATH}/versions" if before is not None else None
    return page(request, "rules/versions.html", title="Versions of the program", older=older, newest=newest, **found)


@router.get(f"{PATH}/versions/{{version}}", name="rules.version")
async def show_version(request: Request, visitor: Visitor, services: ServicesDep, version: VersionNumber) -> Response:
    """What one version said, and what it changed."""
    account_id = visitor.account_id

    def look(unit: Unit) -> dict[str, Any]:
        found = get_program(unit, GetProgram(account_id, version))
        before = get_program(unit, GetProgram(account_id, version - 1)) if version > 1 else None
        current = get_program(unit, GetProgram(account_id))
        return {
            "found": found,
            "in_force": current.version == found.version,
            "names": names_of(unit, account_id, [found.actor]),
            "differences": [] if before is None else rule_words.differences(before, found),
        }

    found = await services.runner.read(look)
    return page(
        request,
        "rules/version.html",
        title=f"Version {version} of the program",
        described=rule_words.described(found["found"]),
        may_change="rules.change" in ROLES[visitor.member.membership.role],
        **found,
    )


@router.post(f"{PATH}/versions/{{version}}/again", name="rules.again")
async def again(
    request: Request, visitor: Visitor, services: ServicesDep, version: VersionNumber, form: SentForm
) -> Response:
    """The effect of putting an earlier version into force again."""
    account_id = visitor.account_id

    def look(unit: Unit) -> tuple[ProgramVersion, ProgramVersion]:
        return get_program(unit, GetProgram(account_id)), get_program(unit, GetProgram(account_id, version))

    current, earlier = await services.runner.read(look)
    edit = _Edit(f"{PATH}/versions/{version}", lambda _: _restored(current, earlier), ())
    return await _reviewed(request, visitor, services, current, form, edit)


def _restored(current: ProgramVersion, earlier: ProgramVersion) -> dict[str, Any]:
    """The patch that makes of the version in force an earlier one. A rule or a tier that is gone is added anew."""
    content: Any = msgspec.json.decode(msgspec.json.encode(program_content(earlier)))
    rules = {each.id for each in current.rules.earning.rules}
    tiers = {each.id for each in current.tiers}
    for items, known in ((content["earning"]["rules"], rules), (content["tiers"], tiers)):
        for each in items:
            each["id"] = each["id"] if each["id"] in known else None
    dropped = current.rules.earning.conversion.keys() - earlier.rules.earning.conversion.keys()
    content["earning"]["conversion"] |= dict.fromkeys(dropped)
    return {name: content[name] for name in content if name not in ("currency", "time_zone")}


# -- changes ---------------------------------------------------------------------------------------------------------------


@record
class _Edit:
    """A form that changes the program. `patch` makes its patch. `fields`: those that an error may stand at.

    `param`: the field that a place in the patch belongs to. `template`, `model`: what shows the form again; None for no form.
    """

    path: str
    patch: Callable[[ProgramVersion], dict[str, Any]]
    fields: tuple[str, ...]
    template: str | None = None
    model: Callable[[Form], Mapping[str, Any]] = lambda _: {}
    param: Callable[[str | None], str | None] = lambda param: param


@router.get(f"{PATH}/earning/{{rule_id}}", name="rules.rule")
async def edit_rule(request: Request, visitor: Visitor, services: ServicesDep, rule_id: RuleId) -> Response:
    """The form of a rule; of a new one under the id `new`."""
    version = await _current(visitor, services)
    rule = None if rule_id == NEW else version.rules.earning.rules[_place(version, rule_id)]
    edit = _rule_edit(version, rule_id, blank(request))
    return _form_page(request, rule_form(request, rule, version.rules.currency), edit)


@router.post(f"{PATH}/earning/{{rule_id}}", name="rules.review_rule")
async def review_rule(
    request: Request, visitor: Visitor, services: ServicesDep, rule_id: RuleId, form: SentForm
) -> Response:
    """The effect of a rule that is not saved yet."""
    version = await _current(visitor, services)
    return await _reviewed(request, visitor, services, version, form, _rule_edit(version, rule_id, form))


@router.post(f"{PATH}/earning/{{rule_id}}/remove", name="rules.remove_rule")
async def review_removal(
    request: Request, visitor: Visitor, services: ServicesDep, rule_id: RuleId, form: SentForm
) -> Response:
    """The effect of a rule that is not removed yet."""
    version = await _current(visitor, services)
    place = _place(version, rule_id)
    edit = replace(_rule_edit(version, rule_id, form), patch=lambda current: rules_patch(current, place, None))
    try:
        return await _reviewed(request, visitor, services, version, form, replace(edit, template=None))
    except Refused as error:
        own = rule_form(request, version.rules.earning.rules[place], version.rules.currency)
        return _form_page(request, refused(request, own, error), edit, status_of(error))


def _rule_edit(version: ProgramVersion, rule_id: str, form: Form) -> _Edit:
    currency = version.rules.currency
    is_new = rule_id == NEW
    place = len(version.rules.earning.rules) if is_new else _place(version, rule_id)
    name = "New rule" if is_new else version.rules.earning.rules[place].name
    return _Edit(
        f"{PATH}/earning/{rule_id}",
        lambda current: rules_patch(current, place, rule_of(form, None if is_new else rule_id, currency)),
        RULE_FIELDS,
        "rules/rule.html",
        lambda _: {"title": name, "is_new": is_new, "currency": currency},
        lambda param: rule_param(param, place),
    )


@router.get(f"{PATH}/tiers", name="rules.tiers")
async def edit_tiers(request: Request, visitor: Visitor, services: ServicesDep) -> Response:
    """The form of all tiers."""
    version = await _current(visitor, services)
    rules = version.rules
    form = tiers_form(request, version.tiers, rules.tiering, rules.currency)
    return _form_page(request, form, _tiers_edit(version, form))


@router.post(f"{PATH}/tiers", name="rules.review_tiers")
async def review_tiers(request: Request, visitor: Visitor, services: ServicesDep, form: SentForm) -> Response:
    """The effect of tiers that are not saved yet."""
    version = await _current(visitor, services)
    return await _reviewed(request, visitor, services, version, form, _tiers_edit(version, form))


def _tiers_edit(version: ProgramVersion, form: Form) -> _Edit:
    rules = version.rules
    return _Edit(
        f"{PATH}/tiers",
        lambda _: tiers_of(form, rules.tiering, rules.currency),
        tuple(name for name in form.fields if name.startswith("tiers[")),
        "rules/tiers.html",
        lambda shown: {
            "title": "Tiers",
            "places": tier_places(shown),
            "metric": rules.tiering.metric,
            "currency": rules.currency,
            "counted": rule_words.tiering_sentence(rules.tiering),
        },
    )


@router.get(f"{PATH}/settings", name="rules.settings")
async def edit_settings(request: Request, visitor: Visitor, services: ServicesDep) -> Response:
    """The form of everything else."""
    version = await _current(visitor, services)
    form = settings_form(request, version)
    return _form_page(request, form, _settings_edit(form))


@router.post(f"{PATH}/settings", name="rules.review_settings")
async def review_settings(request: Request, visitor: Visitor, services: ServicesDep, form: SentForm) -> Response:
    """The effect of settings that are not saved yet."""
    version = await _current(visitor, services)
    return await _reviewed(request, visitor, services, version, form, _settings_edit(form))


def _settings_edit(form: Form) -> _Edit:
    def patch(current: ProgramVersion) -> dict[str, Any]:
        given = settings_of(form, current.rules.currency)
        given["earning"]["conversion"] = conversion_of(form, current)
        return given

    model = {"title": "Settings of the program", "months": rule_words.MONTHS}
    return _Edit(f"{PATH}/settings", patch, SETTINGS_FIELDS, "rules/settings.html", lambda _: model, _settings_param)


def _settings_param(param: str | None) -> str | None:
    return "earning.conversion" if (param or "").startswith("earning.conversion") else param


@router.post(f"{PATH}/save", name="rules.save")
async def save(request: Request, visitor: Visitor, form: SentForm) -> Response:
    """Put a change into force whose effect was shown, if the version is still the one that it was shown for."""
    version, patch = form.text("version"), _sent_patch(form.raw("patch"))
    if not (version.isascii() and version.isdecimal()):
        raise InvalidInput("This form has no version. Go back, and change the program again.")
    note = {"note": form.text("note")[:_LONGEST_NOTE] or None}
    command = ChangeProgram(
        visitor.account_id, lambda current: program_draft(current, patch | note), frozenset({int(version[:15])})
    )
    made, _ = await commit(request, form, lambda unit: {"version": change_program(unit, command).version})
    return redirect(request, PATH, f"Version {made['version']} of the program is in force.")


def _sent_patch(text: str) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(text[:_LONGEST_PATCH], type=dict[str, Any])
    except msgspec.MsgspecError:
        raise InvalidInput("This form has no change in it. Go back, and change the program again.") from None
    return found


async def _reviewed(
    request: Request, visitor: Visit, services: Services, version: ProgramVersion, form: Form, edit: _Edit
) -> Response:
    """A change with its effect, and the button that saves it; or its form, when it is refused or shall be edited further."""
    if form.checked("edit", "yes") and edit.template is not None:
        return _form_page(request, form, edit)
    try:
        patch = edit.patch(version)
        command = ChangeProgram(
            visitor.account_id, lambda current: program_draft(current, patch), frozenset({version.version})
        )
        preview = await previewed(services, command)
    except Refused as error:
        if edit.template is None:
            raise
        error.param = edit.param(error.param)
        return _form_page(request, refused(request, form, error, *edit.fields), edit, status_of(error))
    return page(
        request,
        "rules/review.html",
        title="Effect of the change",
        form=blank(request),
        edit=edit,
        kept=[(name, value) for name, values in form.fields.items() for value in values if name != "edit"],
        patch=msgspec.json.encode(patch).decode(),
        version=version.version,
        effect=preview.effect,
        difference=change(preview.effect.points_before, preview.effect.points_after),
        differences=rule_words.differences(version, preview.after),
        moves=_moves(preview.effect),
    )


def _moves(effect: Effect) -> str:
    """Who would change the tier: `310 customers would be Gold, and 2 would be Silver`."""
    if not effect.moved_to:
        return "No customer would change the tier."
    parts = [f"{rule_words.count_of(each.customers, 'customer')} would be {each.tier}" for each in effect.moved_to]
    return f"{rule_words.listed(parts)}."


def _form_page(request: Request, form: Form, edit: _Edit, status: int = 200) -> Response:
    assert edit.template is not None
    return page(request, edit.template, status=status, form=form, path_=edit.path, **edit.model(form))


async def _current(visitor: Visit, services: Services) -> ProgramVersion:
    query = GetProgram(visitor.account_id)
    return await services.runner.read(lambda unit: get_program(unit, query))


def _place(version: ProgramVersion, rule_id: str) -> int:
    """The place of a rule. Raises `NotFound`."""
    for place, rule in enumerate(version.rules.earning.rules):
        if rule.id == rule_id:
            return place
    raise NotFound("The program has no such rule.")
