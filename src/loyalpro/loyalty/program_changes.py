"""Commands about the program: change it, which makes its next version, and read it and its versions."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from loyalpro.jobs.periodic_job import JobKind
from loyalpro.kernel.changes import changes_of
from loyalpro.kernel.errors import Conflict, InvalidInput, NotFound, PreconditionFailed
from loyalpro.kernel.ids import IdFactory
from loyalpro.kernel.record import record
from loyalpro.loyalty.ports import LoyaltyUnit
from loyalpro.loyalty.program import Program, ProgramVersion, Rules
from loyalpro.loyalty.program_checks import check_rules, check_tiers
from loyalpro.loyalty.tiers import Benefit, Tier

RETIER: Final = JobKind("retier")
"""The job that applies changed tiers to customers."""


@record
class TierDraft:
    """A tier as it shall be. `id` None: a tier that is added."""

    id: str | None
    name: str
    threshold: int
    multiplier_permille: int
    benefits: tuple[Benefit, ...]


@record
class ProgramDraft:
    """The program as it shall be. A rule with an empty id is added. A tier that is missing is retired."""

    rules: Rules
    tiers: tuple[TierDraft, ...]
    note: str | None


Revise = Callable[[ProgramVersion], ProgramDraft]
"""Makes of the version in force the program as it shall be."""


@record
class ChangeProgram:
    """A change of the program. `versions`: it is made only if one of these is in force; None for any."""

    account_id: str
    revise: Revise
    versions: frozenset[int] | None = None


@record
class _Stated:
    """What a version states: the part of a program that a change changes."""

    version: int
    rules: Rules
    tiers: tuple[Tier, ...]


@record
class GetProgram:
    """The program of an account; `version` None: the version in force."""

    account_id: str
    version: int | None = None


@record
class ListVersions:
    """Versions to read, newest first: those before `before`."""

    account_id: str
    before: int | None
    limit: int


def change_program(unit: LoyaltyUnit, command: ChangeProgram) -> ProgramVersion:
    """Put the next version into force, if anything changes; the version that is in force then.

    Tiers are added, changed and retired. After a change of tiers a job moves the customers to those that they qualify for.
    Raises `PreconditionFailed` when another version is in force, `InvalidInput` that names the field, and `Conflict`
    `program_in_use` for another currency or time zone after the first purchase.
    """
    before = unit.programs.lock(command.account_id)
    current = _version_in_force(unit, command.account_id, before)
    changed = revised(unit, command, before, current)
    if (changed.rules, changed.tiers) == (before.rules, before.tiers):
        return current
    kept = {tier.id for tier in changed.tiers}
    retired = [tier for tier in before.tiers if tier.id not in kept]
    unit.programs.change(command.account_id, before, changed, retired)
    if _may_move_customers(before, changed):
        unit.programs.queue_retier(unit.ids.new("job"), command.account_id, unit.actor, unit.now)
        unit.wake_job(RETIER)
    stated = [_Stated(each.version, each.rules, each.tiers) for each in (before, changed)]
    unit.audit(command.account_id, "program.changed", command.account_id, changes_of(*stated))
    return changed


def revised(unit: LoyaltyUnit, command: ChangeProgram, before: Program, current: ProgramVersion) -> ProgramVersion:
    """The next version, checked and not stored. Raises what `change_program` raises."""
    if command.versions is not None and before.version not in command.versions:
        raise PreconditionFailed(
            f"Version {before.version} of the program is in force; read it, and send your change with"
            f' If-Match: "{before.version}".',
            param="If-Match",
        )
    draft = command.revise(current)
    rules = _with_rule_ids(draft.rules, before.rules, unit.ids)
    check_rules(rules)
    tiers = _with_ranks(draft.tiers, before, unit.ids)
    check_tiers(tiers)
    _refuse_in_use(unit, command.account_id, before.rules, rules)
    return ProgramVersion(before.version + 1, rules, tiers, unit.actor, draft.note, unit.now)


def get_program(unit: LoyaltyUnit, query: GetProgram) -> ProgramVersion:
    """The version in force, or an earlier one. Raises `NotFound`."""
    if query.version is None:
        return _version_in_force(unit, query.account_id, unit.programs.get(query.account_id))
    found = unit.programs.version(query.account_id, query.version)
    if found is None:
        raise NotFound(f"The program has no version {query.version}.", param="version")
    return found


def list_versions(unit: LoyaltyUnit, query: ListVersions) -> list[ProgramVersion]:
    """Versions of the program, newest first."""
    return unit.programs.list_versions(query.account_id, query.before, query.limit)


def _version_in_force(unit: LoyaltyUnit, account_id: str, program: Program) -> ProgramVersion:
    found = get_program(unit, GetProgram(account_id, program.version))
    return replace(found, tiers=program.tiers)


def _with_rule_ids(rules: Rules, before: Rules, ids: IdFactory) -> Rules:
    """The rules, with an id for each that is added. Raises `InvalidInput` for an id that no rule has."""
    known = {rule.id for rule in before.earning.rules}
    for index, rule in enumerate(rules.earning.rules):
        if rule.id and rule.id not in known:
            raise InvalidInput(
                f"The program has no rule {rule.id[:64]}; leave out the id of a new rule.",
                code="unknown_rule",
                param=f"earning.rules[{index}].id",
            )
    named = tuple(rule if rule.id else replace(rule, id=ids.new("rule")) for rule in rules.earning.rules)
    return replace(rules, earning=replace(rules.earning, rules=named))


def _with_ranks(drafts: Sequence[TierDraft], before: Program, ids: IdFactory) -> tuple[Tier, ...]:
    """The tiers, lowest first; one that is in force keeps its id. Raises `InvalidInput` for an id that no such tier has."""
    known = {tier.id for tier in before.tiers}
    for index, draft in enumerate(drafts):
        if draft.id is not None and (draft.id not in known or draft.id in {each.id for each in drafts[:index]}):
            raise InvalidInput(
                f"{draft.id[:64]} is not a tier in force, or occurs twice; leave out the id of a new tier.",
                code="unknown_tier",
                param=f"tiers[{index}].id",
            )
    return tuple(
        Tier(each.id or ids.new("tier"), each.name, rank, each.threshold, each.multiplier_permille, each.benefits)
        for rank, each in enumerate(sorted(drafts, key=lambda draft: draft.threshold), 1)
    )


def _refuse_in_use(unit: LoyaltyUnit, account_id: str, before: Rules, after: Rules) -> None:
    """Days, spend and thresholds are counted in the currency and the time zone, so both stay after the first purchase."""
    same_currency, same_zone = before.currency == after.currency, before.time_zone == after.time_zone
    if (same_currency and same_zone) or not unit.transactions.list_newest(account_id, None, None, None, 1):
        return
    raise Conflict(
        "The account has purchases, which are counted in the program's currency and time zone; both can be changed only before"
        " the first purchase.",
        code="program_in_use",
        param="time_zone" if same_currency else "currency",
    )


def _may_move_customers(before: Program, after: ProgramVersion) -> bool:
    """Whether customers may qualify for another tier than before."""
    thresholds = [[(tier.id, tier.threshold) for tier in tiers] for tiers in (before.tiers, after.tiers)]
    return thresholds[0] != thresholds[1] or before.rules.tiering != after.rules.tiering
