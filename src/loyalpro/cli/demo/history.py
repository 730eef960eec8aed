"""Gives the demo a past: the program and the delivery engine run through a week on a clock that jumps.

Nothing is made up afterwards: each customer, purchase and refund is a command at its time, each event is committed with it, and
each attempt is a signed request that the receiver's own check has judged. Only the way between the two is not a network.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import urlsplit

from loyalpro import bootstrap
from loyalpro.accounts.accounts import first_account
from loyalpro.accounts.passwords import Passwords
from loyalpro.cli.demo.fast_time import FastClock, FastLoop, StillDatabase
from loyalpro.cli.demo.receiver import PATH, answer_to
from loyalpro.cli.demo.week import (
    DAYS,
    HOUR_MS,
    MINUTE_MS,
    NAMES,
    REWARDS,
    Buys,
    Dismisses,
    Enrolls,
    Gift,
    PausesWarehouse,
    Redeems,
    Returns,
    Step,
    email_of,
    external_id,
    plan,
)
from loyalpro.delivery.attempt import OutgoingRequest, Response, SendResult, Timings
from loyalpro.delivery.engine import Engine, EngineSettings
from loyalpro.delivery.maintenance import delivery_jobs
from loyalpro.delivery.schedule import RetrySchedule
from loyalpro.delivery.worker_registration import LeaseTimes
from loyalpro.events.transaction import Item
from loyalpro.jobs.periodic_job import JobKind
from loyalpro.kernel.clock import MS_PER_DAY, MS_PER_S, Clock, UnixMs
from loyalpro.kernel.errors import Refused
from loyalpro.kernel.ids import IdFactory
from loyalpro.loyalty.adjustments import AdjustPoints, adjust_points
from loyalpro.loyalty.customers import EnrollCustomer, enroll_customer
from loyalpro.loyalty.fraud.resolution import ListCases, ResolveCase, list_cases, resolve_case
from loyalpro.loyalty.fraud.rule_changes import ChangeRules, RuleChange, change_rules
from loyalpro.loyalty.recording import NewPurchase, RecordPurchases, record_purchases
from loyalpro.loyalty.redemptions import RedeemPoints, redeem_points
from loyalpro.loyalty.refunds import NewRefund, RefundPurchase, refund_purchase
from loyalpro.loyalty.rewards import NewReward, create_reward
from loyalpro.loyalty.sweeps.schedule import loyalty_sweeps
from loyalpro.settings import Settings
from loyalpro.storage.delivery_store import DatabaseDeliveryStore
from loyalpro.storage.key_file import KeyFile
from loyalpro.storage.open import open_database
from loyalpro.storage.unit_of_work import DatabaseUnitOfWorkRunner, Tools, UnitOfWork
from loyalpro.storage.vault import Vault
from loyalpro.telemetry import Telemetry
from loyalpro.transport.address_policy import AddressPolicy
from loyalpro.transport.request import sign_attempt
from loyalpro.webhooks.endpoint_url import PublicUrl, canonical_url
from loyalpro.webhooks.endpoints import AddEndpoint, ChangeEndpoint, add_endpoint, change_endpoint

T = TypeVar("T")

_ACTOR: Final = "system:demo"
_DRAIN_S: Final = 10.0
_JOBS_EVERY_S: Final = 12 * 3_600.0
_SCAN_EVERY_S: Final = 4 * 3_600.0
_LEASES: Final = LeaseTimes(ttl_s=24 * 3_600.0, renew_s=8 * 3_600.0)
_NEWSLETTER_FAILS_MS: Final = 6 * HOUR_MS
"""For how long the newsletter has answered with an error when the demo starts."""
_OUTAGE_MS: Final = 90 * MINUTE_MS
"""For how long the shop's own receiver was down, from a noon in the middle of the week."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """An endpoint of the demo: its name in the dashboard, the path of the receiver, and what it gets."""

    name: str
    path: str
    types: tuple[str, ...]


RECEIVER: Final = Subscription("demo receiver", PATH, ("*",))
NEWSLETTER: Final = Subscription(
    "Newsletter", "/newsletter", ("customer.created", "customer.tier_changed", "points.earned")
)
WAREHOUSE: Final = Subscription("Data warehouse", "/warehouse", ("transaction.completed", "transaction.refunded"))
SUBSCRIPTIONS: Final = (RECEIVER, NEWSLETTER, WAREHOUSE)


async def write_history(
    settings: Settings,
    receiver_url: str,
    *,
    now: UnixMs,
    rng: random.Random,
    report: Callable[[int, int], None],
    is_stopped: Callable[[], bool],
) -> bool:
    """Write the past into the database of the settings, which does not exist yet; False when it was stopped before its end.

    It has to run on a `FastLoop`. `report` is called with how many steps are done, and how many there are.
    """
    loop = asyncio.get_running_loop()
    assert isinstance(loop, FastLoop)
    past = _Past(loop, settings, receiver_url, now, rng)
    async with past.running():
        steps = plan(rng, now)
        for done, step in enumerate(steps):
            if is_stopped():
                return False
            await past.until(step.at)
            await past.do(step)
            report(done + 1, len(steps))
        await past.until(now)
        await past.tolerate_many_purchases()
    return True


class _Past:
    """The parts of a server, connected as `Application` does it, on a clock that jumps and with a receiver in place of HTTP."""

    def __init__(self, loop: FastLoop, settings: Settings, receiver_url: str, now: UnixMs, rng: random.Random) -> None:
        self._settings = settings
        self._start_ms = now - DAYS * MS_PER_DAY
        self._noon_ms = self._start_ms - self._start_ms % MS_PER_DAY + DAYS // 2 * MS_PER_DAY + 12 * HOUR_MS
        self._clock = clock = FastClock(loop, self._start_ms)
        self._loop = loop
        self._never = asyncio.Event()
        self._key_file = KeyFile(settings.sqlite_path, rng)
        vault = Vault([self._key_file.generate()], rng.randbytes)
        ids = IdFactory(clock, rng)
        self._database = StillDatabase(open_database(settings.url, clock), loop)
        self._urls = {
            each.name: PublicUrl(canonical_url(receiver_url + each.path, AddressPolicy(settings.egress_allow)).url)
            for each in SUBSCRIPTIONS
        }
        schedule, telemetry = RetrySchedule(), Telemetry(clock)
        self._sender = _Post(clock, rng, self._is_down)
        self._engine = Engine(
            store=DatabaseDeliveryStore(self._database, vault, clock, ids),
            sender=self._sender,
            sign=sign_attempt,
            clock=clock,
            rng=rng,
            new_worker_id=lambda: ids.new("wrk"),
            metrics=telemetry,
            settings=EngineSettings(poll_s=_SCAN_EVERY_S, leases=_LEASES, schedule=schedule),
        )
        self.runner = DatabaseUnitOfWorkRunner(
            self._database,
            Tools(clock, ids, vault, rng.randbytes),
            wake_endpoints=self._engine.wake,
            wake_job=lambda _: None,
        )
        self._jobs = [
            *delivery_jobs(self.runner, schedule, interval_s=_JOBS_EVERY_S),
            *loyalty_sweeps(self.runner, clock, _JOBS_EVERY_S, _failed),
        ]
        self._account_id = ""
        self._customers: dict[int, str] = {}
        self._rewards: list[str] = []
        self._warehouse_id = ""

    # -- life cycle --------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The context in which time passes: a shop that has just opened its account, and an engine that delivers."""
        await self._database.start()
        try:
            with self._loop.standing_still():
                await asyncio.to_thread(self._key_file.save, secrets_exist=False)
                await bootstrap.prepare_first_account(self.runner, self._settings, Passwords())
            await self._open_shop()
            tasks = [asyncio.create_task(self._engine.run()), asyncio.create_task(self._run_jobs())]
            try:
                yield
            finally:
                await self._engine.drain(_DRAIN_S)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            await self._database.stop()

    async def until(self, at: UnixMs) -> None:
        """Let time pass, with everything that is due in it."""
        await self._clock.wait(self._never, max(0, at - self._clock.now_ms()) / MS_PER_S)

    async def _run_jobs(self) -> None:
        """Do what is due because of the time, several times a day."""
        while True:
            for job in self._jobs:
                while (await job.run_piece(self._clock.now_ms())).more:
                    pass
            await self._clock.wait(self._never, _JOBS_EVERY_S)

    async def _open_shop(self) -> None:
        """Create rewards and endpoints."""
        account = await self.runner.read(first_account)
        assert account is not None
        self._account_id = account.id

        def work(unit: UnitOfWork) -> None:
            for name, sku, cost in REWARDS:
                self._rewards.append(create_reward(unit, _reward(account.id, name, sku, cost)).id)
            for each in SUBSCRIPTIONS:
                command = AddEndpoint(
                    account.id, self._urls[each.name], each.types, self._settings.max_endpoints, each.name
                )
                added = add_endpoint(unit, command)
                self._sender.secrets[self._urls[each.name]] = added.secret
                if each is WAREHOUSE:
                    self._warehouse_id = added.details.endpoint.id

        await self._change(work)

    async def tolerate_many_purchases(self) -> None:
        """Switch off the rules that find many purchases of a customer: the till that follows never rests."""
        rules = [RuleChange(code, enabled=False) for code in ("velocity.earn", "points.cap")]
        await self._change(lambda unit: change_rules(unit, ChangeRules(self._account_id, rules)))

    async def _change(self, work: Callable[[UnitOfWork], T]) -> T:
        return await self.runner.change(work, actor=_ACTOR)

    def _is_down(self, path: str, at: UnixMs) -> bool:
        """Whether a receiver answers with an error at this time."""
        if path == NEWSLETTER.path:
            return at >= self._start_ms + DAYS * MS_PER_DAY - _NEWSLETTER_FAILS_MS
        return path == RECEIVER.path and 0 <= at - self._noon_ms < _OUTAGE_MS

    # -- what happens ------------------------------------------------------------------------------------------------

    async def do(self, step: Step) -> None:
        """Do one step of the plan, in one transaction. What the program refuses does not happen."""
        with suppress(Refused):
            await self._change(lambda unit: self._work(unit, step))

    def _work(self, unit: UnitOfWork, step: Step) -> None:
        match step:
            case Enrolls():
                self._customers[step.customer] = enroll_customer(unit, self._enrollment(step.customer)).id
            case Buys():
                record_purchases(unit, RecordPurchases(self._account_id, [self._purchase(step)]))
            case Returns():
                refund = NewRefund(transaction_external_id=step.number, reason="Returned at the till")
                refund_purchase(unit, RefundPurchase(self._account_id, refund))
            case Redeems():
                redeem_points(unit, self._redemption(step))
            case Gift():
                adjust_points(unit, self._gift(step))
            case Dismisses():
                self._dismiss_cases(unit)
            case PausesWarehouse():
                change_endpoint(unit, ChangeEndpoint(self._account_id, self._warehouse_id, {"status": "paused"}))

    def _enrollment(self, customer: int) -> EnrollCustomer:
        return EnrollCustomer(
            account_id=self._account_id,
            external_id=external_id(customer),
            email=email_of(customer),
            phone=None,
            name=NAMES[customer],
            metadata={},
            source="api",
        )

    def _purchase(self, step: Buys) -> NewPurchase:
        items: list[Item] = [{"sku": each.sku, "quantity": 1, "amount": each.amount} for each in step.lines]
        return NewPurchase(
            customer_id=self._customers[step.customer],
            customer_external_id=None,
            external_id=step.number,
            amount=sum(each.amount for each in step.lines),
            currency="EUR",
            occurred_at=None,
            items=items,
            channel="pos",
            location_id=None,
            employee_id=None,
            metadata={},
        )

    def _redemption(self, step: Redeems) -> RedeemPoints:
        return RedeemPoints(
            account_id=self._account_id,
            customer_id=self._customers[step.customer],
            customer_external_id=None,
            points=None,
            reward_id=self._rewards[step.reward],
            reserve_ms=None,
            transaction_id=None,
            external_id=None,
            amount=None,
            currency=None,
        )

    def _gift(self, step: Gift) -> AdjustPoints:
        return AdjustPoints(
            account_id=self._account_id,
            customer_id=self._customers[step.customer],
            points=step.points,
            reason_code="goodwill",
            note="The order came late.",
            expires_at=step.expires_at,
            counts_toward_tier=False,
            allow_negative=False,
            external_id=None,
        )

    def _dismiss_cases(self, unit: UnitOfWork) -> None:
        for case in list_cases(unit, ListCases(self._account_id, "open", None, None, None, 100)):
            note = "An order for six colleagues."
            resolve_case(unit, ResolveCase(self._account_id, case.id, "false_positive", note))


class _Post:
    """Satisfies `Sender`. It hands each request to the receiver's own function, after the time that a network takes."""

    def __init__(self, clock: Clock, rng: random.Random, is_down: Callable[[str, UnixMs], bool]) -> None:
        self._clock = clock
        self._rng = rng
        self._is_down = is_down
        self._never = asyncio.Event()
        self._connected: set[str] = set()
        self.secrets: dict[str, str] = {}

    async def send(self, request: OutgoingRequest) -> SendResult:
        """The answer of the receiver."""
        path = urlsplit(request.url).path
        timings = self._timings(request.url)
        await self._clock.wait(self._never, timings.total_ms / MS_PER_S)
        headers = {name.lower(): value for name, value in request.headers}
        answer = answer_to(
            headers, request.body, self.secrets[request.url], is_down=self._is_down(path, self._clock.now_ms())
        )
        response = Response(answer.status, answer.headers, answer.body, truncated=False)
        return SendResult(response, None, "", "127.0.0.1", timings)

    def _timings(self, url: str) -> Timings:
        """A first request connects; later ones use the kept connection, as curl reports it."""
        first_byte_ms = round(self._rng.lognormvariate(4.2, 0.5), 1)
        total_ms = round(first_byte_ms + self._rng.uniform(0.2, 2), 1)
        if url in self._connected:
            return Timings(None, None, None, first_byte_ms, total_ms)
        self._connected.add(url)
        return Timings(1.2, 2.1, 11.4, first_byte_ms + 14.7, total_ms + 14.7)


def _reward(account_id: str, name: str, sku: str, cost: int) -> NewReward:
    return NewReward(
        account_id=account_id,
        name=name,
        type="free_item",
        amount=None,
        currency=None,
        percent=None,
        sku=sku,
        cost_points=cost,
        min_spend=None,
        tier_ids=(),
        tags=(),
        stock=200,
        limit_per_customer=None,
        starts_at=None,
        ends_at=None,
        status="active",
    )


def _failed(kind: JobKind, id_: str, error: Exception) -> None:
    """End the demo: its past has nothing that a sweep could fail at."""
    raise RuntimeError(f"{kind.name} could not change {id_}") from error
