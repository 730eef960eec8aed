"""Scores customers for churn, an account at a time: a run every day, and the runs that are requested.

A run is prepared first: when its model is a week old, another one is fitted, in a process of its own and outside of any
database transaction. What the run announces is decided then. After that each transaction scores at most 200 customers, under
their locks, and moves a cursor. So a run may stop anywhere and continues from there, and several processes may work on it.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from loyalpro.events.churn import ChurnFeatures, ChurnRisk, ChurnThreshold, ChurnValue
from loyalpro.events.churn import ChurnModel as ModelShown
from loyalpro.jobs.periodic_job import BATCH_SIZE, JobKind, PeriodicJob, Piece
from loyalpro.kernel.clock import MS_PER_S, UnixMs, rfc3339
from loyalpro.kernel.errors import LockTaken, StoreError
from loyalpro.kernel.record import record
from loyalpro.kernel.unit_of_work import UnitOfWorkRunner
from loyalpro.loyalty.book import Book
from loyalpro.loyalty.churn.entities import (
    ChurnModel,
    ChurnRun,
    CustomerScore,
    PurchaseDays,
    counted,
    is_stale,
    new_model,
)
from loyalpro.loyalty.churn.features import Features, History, features
from loyalpro.loyalty.churn.fit import Fit, Sample
from loyalpro.loyalty.churn.fit_process import FitFailed, fit_apart
from loyalpro.loyalty.churn.levels import LastRun, NextRun, Rise, Standing, announcement, next_standing
from loyalpro.loyalty.churn.score import Score
from loyalpro.loyalty.churn.settings import ChurnSettings
from loyalpro.loyalty.expiry import date_of, day_of, day_start
from loyalpro.loyalty.ports import LoyaltyUnit
from loyalpro.loyalty.program import Program, ProgramMissing
from loyalpro.loyalty.wallet import Wallet

CHURN: Final = JobKind("churn")
ACTOR: Final = "system:churn"
"""The actor of a scheduled run."""

_HOUR_OF_RUN: Final = 2
"""Scheduled runs begin at this hour of the local day, when few customers buy."""
_MS_PER_HOUR: Final = 3_600 * MS_PER_S
_ACCOUNTS_PER_PIECE: Final = 20
_CUSTOMERS_PER_PAGE: Final = 1_000
"""How many customers one read for a fit takes."""
_PREPARATION_MS: Final = 900 * MS_PER_S
"""After this time without a result, another process prepares the run. It is longer than a fit may take."""
_KEPT_MS: Final = 90 * 86_400 * MS_PER_S
_DECIMALS: Final = 4

FitHistories = Callable[[Sequence[History]], Awaitable[Fit | None]]


@record
class ScoredPiece(Piece):
    """What one piece scored; `finished` is the run if this piece was its last."""

    finished: ChurnRun | None = None


# -- the schedule ------------------------------------------------------------------------------------------------------


def next_run_at(now: UnixMs, time_zone: str) -> UnixMs:
    """When the run after one that begins now is due: at two o'clock of the next local day."""
    return day_start(day_of(now, time_zone) + 1, time_zone) + _HOUR_OF_RUN * _MS_PER_HOUR


def start_due_run(unit: LoyaltyUnit, account_id: str) -> bool:
    """Store the run of an account that is due; False when another process has stored it."""
    zone = unit.programs.get(account_id).rules.time_zone
    if not unit.churn.schedule(account_id, unit.now, next_run_at(unit.now, zone)):
        return False
    unit.churn.remove_old(account_id, unit.now - _KEPT_MS)
    as_of = date_of(day_of(unit.now, zone))
    run = ChurnRun(
        unit.ids.new("job"), account_id, as_of, requested=False, baseline=False, actor=ACTOR, created_at=unit.now
    )
    unit.churn.insert_run(run)
    return True


# -- one run -----------------------------------------------------------------------------------------------------------


def begin_run(unit: LoyaltyUnit, run_id: str, renewed: ChurnModel | None) -> None:
    """Decide what a queued run announces and which model it uses. `renewed`: the model that was made for it, if any."""
    run = unit.churn.lock_run(run_id, "queued")
    if run is None:
        return
    if renewed is not None:
        unit.churn.put_model(renewed)
    model = _model_of(unit, run)
    last = unit.churn.last_run(run.account_id)
    decided = announcement(
        NextRun(run.as_of, model.parameters, requested=run.requested, baseline=run.baseline),
        None if last is None else LastRun(last.as_of, last.parameters),
        scheduled_before=unit.churn.has_scheduled_run(run.account_id),
        imported=last is not None and unit.churn.was_imported(run.account_id, last.started_at or last.created_at),
    )
    unit.churn.begin(
        replace(
            run,
            status="running",
            settings=unit.churn.settings(run.account_id),
            announcement=decided,
            model_version=model.version,
            parameters=model.parameters,
            started_at=unit.now,
        )
    )


def score_next(unit: LoyaltyUnit, run_id: str) -> ScoredPiece:
    """Score the next customers of a running run; nothing when another transaction does so at this moment.

    Emits `churn.risk` for each customer whose level rises, in a run that emits.
    """
    run = unit.churn.lock_run(run_id, "running")
    if run is None:
        return ScoredPiece(items=0)
    ids = unit.churn.next_customers(run.account_id, run.cursor, BATCH_SIZE)
    is_last = len(ids) < BATCH_SIZE
    scored = _score_all(unit, run, ids) if ids else []
    if run.announcement != "report":
        scores = [each.score for each in scored]
        unit.churn.replace_scores(run.account_id, run.cursor, None if is_last else ids[-1], scores)
    after = _advanced(run, ids, scored)
    if is_last:
        after = replace(after, status="done", finished_at=unit.now)
    unit.churn.advance(after)
    return ScoredPiece(items=len(scored), more=not is_last, finished=after if is_last else None)


@record
class _Scored:
    score: CustomerScore
    rise: Rise | None


def _score_all(unit: LoyaltyUnit, run: ChurnRun, ids: Sequence[str]) -> list[_Scored]:
    """The scores of these customers, decided under their locks, with the events emitted."""
    book = Book(unit, run.account_id, ids=ids)
    scoring = _Scoring(unit, run, ids, book.program)
    found = [scored for wallet in book.wallets if (scored := scoring.score(wallet)) is not None]
    book.write()
    return found


class _Scoring:
    """What one piece of a run knows of its customers."""

    def __init__(self, unit: LoyaltyUnit, run: ChurnRun, ids: Sequence[str], program: Program) -> None:
        self._now = unit.now
        self._run = run
        self._settings = run.settings or ChurnSettings()
        self._currency = program.rules.currency
        self._model = _model_of(unit, run)
        self._days = unit.churn.purchase_days(ids, run.as_of)
        self._standings = {} if run.announcement == "report" else unit.churn.standings(ids)

    def score(self, wallet: Wallet) -> _Scored | None:
        """The score of a customer, whose event is emitted; None without a purchase, for a blocked one, and without a gap."""
        customer, days = wallet.customer, self._days.get(wallet.id)
        if days is None or customer.earning_blocked or customer.redeeming_blocked:
            return None
        seen = features(days.days, self._run.as_of)
        score = None if seen is None else self._model.score(seen, self._settings.horizon_days)
        if seen is None or score is None:
            return None
        standing, rise = next_standing(
            self._standings.get(wallet.id),
            seen,
            score.value,
            self._run.as_of,
            self._settings.rules,
            emit=self._run.announcement == "emit",
        )
        if rise is not None:
            wallet.emit(self._event(wallet, seen, days, score, rise))
        return _Scored(self._stored(wallet, score, standing), rise)

    def _stored(self, wallet: Wallet, score: Score, standing: Standing) -> CustomerScore:
        return CustomerScore(
            customer_id=wallet.id,
            account_id=self._run.account_id,
            score=score.value,
            p_alive=score.p_alive,
            p_purchase=score.p_purchase,
            model_version=self._model.version,
            scored_at=self._now,
            standing=standing,
        )

    def _event(self, wallet: Wallet, seen: Features, days: PurchaseDays, score: Score, rise: Rise) -> ChurnRisk:
        rules, model = self._settings.rules, self._model
        return ChurnRisk(
            customer_id=wallet.id,
            customer_external_id=wallet.customer.external_id,
            risk_level=rise.level,
            previous_level=rise.previous_level,
            score=rounded(score.value),
            threshold=ChurnThreshold(enter=rules.enter, high=rules.high, exit=rules.exit),
            p_alive=_rounded_if_known(score.p_alive),
            p_purchase_horizon=_rounded_if_known(score.p_purchase),
            horizon_days=self._settings.horizon_days,
            features=ChurnFeatures(
                repeat_purchases=seen.repeat_purchases,
                recency_days=seen.recency_days,
                age_days=seen.age_days,
                days_since_last_purchase=seen.days_since_last_purchase,
                typical_gap_days=score.typical_gap_days,
            ),
            value=ChurnValue(
                lifetime_spend=days.spend, currency=self._currency, points_balance=wallet.balance.available
            ),
            model=ModelShown(
                name=model.name,
                version=model.version,
                fitted_customers=model.fitted_customers,
                fallback=model.parameters is None,
            ),
            scored_at=rfc3339(self._now),
        )


def rounded(probability: float) -> float:
    """A probability or score as receivers see it, with four decimals: it is not more exact than that."""
    return round(probability, _DECIMALS)


def _rounded_if_known(probability: float | None) -> float | None:
    return None if probability is None else rounded(probability)


def _advanced(run: ChurnRun, ids: Sequence[str], scored: Sequence[_Scored]) -> ChurnRun:
    levels = [each.score.standing.level for each in scored]
    return replace(
        run,
        cursor=ids[-1] if ids else run.cursor,
        low=run.low + levels.count("low"),
        medium=run.medium + levels.count("medium"),
        high=run.high + levels.count("high"),
        events=run.events + sum(1 for each in scored if each.rise),
        histogram=counted(run.histogram, (each.score.score for each in scored)),
    )


def _model_of(unit: LoyaltyUnit, run: ChurnRun) -> ChurnModel:
    model = unit.churn.model(run.account_id, run.as_of)
    if model is None:
        raise ProgramMissing(f"The run {run.id} has no model.")
    return model


# -- the job -----------------------------------------------------------------------------------------------------------


class ChurnJob:
    """Works on the oldest unfinished run of each account in turn, one piece of each at a time.

    `on_finished` reports a run that ended. `on_fit_failed` reports an account whose model could not be fitted, and why: its
    old model stays in use until the next run.
    """

    def __init__(
        self,
        runner: UnitOfWorkRunner[LoyaltyUnit],
        *,
        on_finished: Callable[[ChurnRun], None],
        on_fit_failed: Callable[[str, str], None],
        fit: FitHistories = fit_apart,
    ) -> None:
        self._runner = runner
        self._on_finished = on_finished
        self._on_fit_failed = on_fit_failed
        self._fit = fit

    def periodic(self, every_s: float) -> PeriodicJob:
        """The job; its interval finds runs that are due, and those that other processes have stored."""
        return PeriodicJob(CHURN, every_s, self.run_piece)

    async def run_piece(self, now: UnixMs) -> Piece:
        """Start the runs that are due, and do one piece of the oldest run of each account."""
        due = await self._runner.read(lambda unit: unit.churn.due_accounts(now, _ACCOUNTS_PER_PIECE))
        for account_id in due:
            await self._start(account_id)
        pieces = [
            await self._continue(run) for run in await self._runner.read(lambda unit: unit.churn.runnable(BATCH_SIZE))
        ]
        more = len(due) == _ACCOUNTS_PER_PIECE or any(piece.more for piece in pieces)
        return Piece(sum(piece.items for piece in pieces), more)

    async def _start(self, account_id: str) -> None:
        await self._runner.change(lambda unit: start_due_run(unit, account_id), "upkeep", actor=ACTOR)

    async def _continue(self, run: ChurnRun) -> Piece:
        """One piece of a run. A run whose piece fails, other than by the database, has failed, and stops no other run."""
        try:
            return await (self._prepare(run) if run.status == "queued" else self._score(run))
        except (StoreError, LockTaken):
            raise  # the next piece tries again
        except Exception:
            await self._runner.change(lambda unit: unit.churn.fail(run.id, unit.now), "upkeep", actor=ACTOR)
            raise

    async def _score(self, run: ChurnRun) -> Piece:
        piece = await self._runner.change(lambda unit: score_next(unit, run.id), "upkeep", actor=run.actor)
        if piece.finished is not None:
            self._on_finished(piece.finished)
            return Piece(piece.items, more=True)  # another run of the account may wait
        return piece

    async def _prepare(self, run: ChurnRun) -> Piece:
        claimed = await self._runner.change(
            lambda unit: unit.churn.claim(run.id, unit.now, unit.now + _PREPARATION_MS), "upkeep", actor=ACTOR
        )
        if not claimed:
            return Piece(items=0)
        renewed = await self._renewed_model(run)
        await self._runner.change(lambda unit: begin_run(unit, run.id, renewed), "upkeep", actor=ACTOR)
        return Piece(items=0, more=True)

    async def _renewed_model(self, run: ChurnRun) -> ChurnModel | None:
        """Another model if the run needs one. None: the run uses the model that is stored."""
        old = await self._runner.read(lambda unit: unit.churn.model(run.account_id, run.as_of))
        if not is_stale(old, run.as_of):
            return None
        customers = (await self._sampled(run)).customers()
        try:
            found = await self._fit([each.history for each in customers])
        except FitFailed as failure:
            self._on_fit_failed(run.account_id, failure.detail)
            if old is not None and old.parameters is not None:
                return None
            found = None
        return new_model(run.account_id, run.as_of, customers, found, run.created_at)

    async def _sampled(self, run: ChurnRun) -> Sample:
        """The customers that a fit sees. Each page is a read of its own."""
        sample = Sample()
        last_id: str | None = ""
        while last_id is not None:
            page = await self._runner.read(partial(_page, run=run, after_id=last_id))
            sample.add(page.customers)
            last_id = page.last_id
        return sample


@record
class _Page:
    """Customers by id. `last_id` None: there are no further ones."""

    customers: list[tuple[str, Features]]
    last_id: str | None


def _page(unit: LoyaltyUnit, run: ChurnRun, after_id: str) -> _Page:
    ids = unit.churn.next_customers(run.account_id, after_id, _CUSTOMERS_PER_PAGE)
    days = unit.churn.purchase_days(ids, run.as_of) if ids else {}
    seen = [(id_, features(each.days, run.as_of)) for id_, each in days.items()]
    return _Page(
        [(id_, each) for id_, each in seen if each is not None], ids[-1] if len(ids) == _CUSTOMERS_PER_PAGE else None
    )
