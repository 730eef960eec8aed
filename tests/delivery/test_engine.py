"""The engine with a database and receivers, on a virtual clock: each test checks what the receivers have got."""

import hashlib
import hmac
from dataclasses import dataclass, field, replace

import pytest

from delivery.stage import DAY, ENDS, HOUR, HOURS, SECONDS, SECRET, Hit, Reply, SlowStore, Stage, play
from loyalpro.delivery.breaker import RAMP_DOUBLES_S, RAMP_FROM_PER_S
from loyalpro.delivery.endpoint_queue import FIRST_WINDOW
from loyalpro.delivery.endpoint_queues import Bounds
from loyalpro.delivery.schedule import RetrySchedule
from loyalpro.delivery.states import EndpointStatus
from loyalpro.kernel.clock import UnixMs
from loyalpro.storage.unit_of_work import UnitOfWork
from loyalpro.transport.signing import new_secret
from loyalpro.webhooks.entities import Replay
from simulation.loop import pass_time

FAILS = Reply(500)


def numbered(count: int) -> list[str]:
    return [f"{number:03}" for number in range(count)]


def most_in_any_second(hits: list[Hit]) -> int:
    times = [hit.at_s for hit in hits]
    return max(sum(start <= at < start + 1 for at in times) for start in times)


def test_a_failing_endpoint_is_probed_and_then_gets_its_backlog_at_a_rising_rate() -> None:
    async def story(stage: Stage) -> None:
        stage.server()
        shop = stage.endpoint(lambda hit: FAILS if hit.at_s < 60 else Reply())
        stage.happen(shop, *numbered(300))
        await pass_time(60)
        assert len(shop.hits) < 30, "it got more than probes"
        await stage.until(lambda: stage.statuses(shop) == {"succeeded"})
        back = [hit.at_s for hit in shop.hits if hit.at_s >= 60]
        for second in range(5):
            count = sum(back[0] + second <= at < back[0] + second + 1 for at in back)
            assert 0 < count <= RAMP_FROM_PER_S * 2 ** ((second + 1) / RAMP_DOUBLES_S) + 2

    play(story)


def test_a_delivery_whose_task_crashed_is_sent_later_and_delays_no_other() -> None:
    @dataclass(frozen=True)
    class CrashingOnce(RetrySchedule):
        """Raises an error for the first delivery."""

        asked: list[None] = field(default_factory=list)

        def is_over(self, first_attempt_at: UnixMs, now: UnixMs) -> bool:
            self.asked.append(None)
            if len(self.asked) == 1:
                raise ZeroDivisionError
            return super().is_over(first_attempt_at, now)

    async def story(stage: Stage) -> None:
        stage.server()
        shop = stage.endpoint(lambda _: Reply())
        stage.happen(shop, *numbered(3))
        await stage.until(lambda: len(shop.hits) == 2, longest_s=5)
        await stage.until(lambda: stage.statuses(shop) == {"succeeded"}, longest_s=100)

    play(story, replace(SECONDS, schedule=CrashingOnce()), expected_errors=["delivery_crashed"])


def test_a_server_that_was_frozen_sends_new_deliveries_at_once() -> None:
    """Another worker has rescued those that it held, however many they were."""

    async def story(stage: Stage) -> None:
        frozen = stage.server("frozen")
        shops = [stage.endpoint(lambda hit: Reply(wait_s=2.5 if hit.server == "frozen" else 0.01)) for _ in range(140)]
        for shop in shops:
            stage.happen(shop, *numbered(FIRST_WINDOW))
        await stage.until(lambda: all(len(shop.hits) == FIRST_WINDOW for shop in shops))
        frozen.freeze(30)
        other = stage.server("other")
        await stage.until(lambda: all(stage.statuses(shop) == {"succeeded"} for shop in shops))
        other.kill()
        await stage.until(lambda: not frozen.frozen)
        await pass_time(3)
        new = stage.endpoint()
        stage.happen(new, "new")
        await stage.until(lambda: new.marks == ["new"], longest_s=5)

    play(story)


def test_410_disables_the_endpoint_at_once_and_its_deliveries_wait() -> None:
    async def story(stage: Stage) -> None:
        stage.server()
        shop = stage.endpoint(lambda hit: Reply(410) if hit.at_s < 5 else Reply())
        stage.happen(shop, "first")
        await pass_time(1)
        stage.happen(shop, "second")
        await pass_time(10)
        assert stage.status(shop) == (EndpointStatus.DISABLED, "gone")
        assert (shop.marks, stage.statuses(shop)) == (["first"], {"parked"})
        assert [kind for kind, _ in stage.notices()] == ["endpoint_disabled"]
        stage.set_status(shop, EndpointStatus.ENABLED)
        await stage.until(lambda: stage.statuses(shop) == {"succeeded"})

    play(story)


def test_failures_only_cause_warnings_on_days_one_and_three_and_disable_on_day_five() -> None:
    async def story(stage: Stage) -> None:
        stage.server()
        shop = stage.endpoint(lambda _: FAILS)
        for number in range(12):
            stage.happen(shop, f"{number}a", f"{number}b", f"{number}c")
            await pass_time(DAY / 2)
        notices = stage.notices()
        assert [kind for kind, _ in notices] == ["endpoint_failing", "endpoint_failing", "endpoint_disabled"]
        assert [int(at) for _, at in notices] == [1, 3, 5]
        assert stage.status(shop) == (EndpointStatus.DISABLED, "failing")
        before = len(shop.hits)
        await pass_time(DAY)
        assert len(shop.hits) == before

    play(story, HOURS)


def test_a_paused_endpoint_gets_nothing_and_then_everything_oldest_first() -> None:
    async def story(stage: Stage) -> None:
        stage.server()
        shop = stage.endpoint()
        stage.set_status(shop, EndpointStatus.PAUSED)
        for mark in numbered(40):
            stage.happen(shop, mark)
            await pass_time(0.1)
        await pass_time(60)
        assert (shop.hits, stage.statuses(shop)) == ([], {"parked"})
        stage.set_status(shop, EndpointStatus.ENABLED)
        await stage.until(lambda: stage.statuses(shop) == {"succeeded"})
        assert shop.marks == numbered(40)

    play(story)


def test_a_parked_delivery_whose_window_closes_is_exhausted_and_can_be_replayed() -> None:
    async def story(stage: Stage) -> None:
        stage.server()
        shop = stage.endpoint(lambda hit: FAILS if hit.at_s < HOUR else Reply())
        stage.happen(shop, "late")
        await pass_time(60)
        stage.set_status(shop, EndpointStatus.PAUSED)
        await pass_time(71 * HOUR)
        assert stage.statuses(shop) == {"parked"}
        await pass_time(2 * HOUR)
        assert stage.statuses(shop) == {"exhausted"}
        stage.set_status(shop, EndpointStatus.ENABLED)
        tried = len(shop.hits)
        await pass_time(HOUR)
        assert len(shop.hits) == tried
        stage.change(lambda unit: unit.replays.insert(everything(unit, shop.account_id, shop.endpoint_id)))
        await stage.until(lambda: stage.statuses(shop) == {"succeeded"}, HOUR)
        assert len(shop.hits) == tried + 1

    play(story, HOURS)


def everything(unit: UnitOfWork, account_id: str, endpoint_id: str) -> Replay:
    return Replay(
        id=unit.ids.new("rpl"),
        account_id=account_id,
        endpoint_id=endpoint_id,
        since=0,
        until=unit.now,
        types=None,
        statuses=("exhausted",),
        status="running",
        cursor="",
        examined=0,
        replayed=0,
        created_at=unit.now,
        finished_at=None,
    )


def test_a_receiver_that_knows_one_secret_may_switch_at_any_time_and_nothing_fails() -> None:
    async def story(stage: Stage) -> None:
        stage.server()
        held = SECRET

        def checking(hit: Hit) -> Reply:
            expected = hmac.new(held.encode(), hit.body, hashlib.sha256).hexdigest()
            return Reply(200 if hit.headers["X-LoyalPro-Signature"] == expected else 401)

        shop = stage.endpoint(checking)
        newer = [new_secret(bytes([number]) * 32) for number in (1, 2)]
        for secret in newer:
            stage.change(lambda unit, secret=secret: rotate(unit, shop.account_id, shop.endpoint_id, secret))  # type: ignore[misc]
        sizes = []
        for held in [SECRET, *newer]:  # noqa: B007 - read by the receiver
            before = len(shop.hits)
            for mark in numbered(5):
                stage.happen(shop, mark)
                await pass_time(1)
            sizes.append(len(shop.hits) - before)
        assert {each.attempts for each in stage.deliveries(shop)} == {1}
        assert stage.statuses(shop) == {"succeeded"}
        assert sizes == [5, 5 + 2, 5 + 1], "it refused once before each switch was known"

    play(story)


def rotate(unit: UnitOfWork, account_id: str, endpoint_id: str, secret: str, *, promoted: bool = False) -> None:
    endpoint = unit.endpoints.get(account_id, endpoint_id)
    assert endpoint is not None
    unit.secrets.expire_older(endpoint_id, 99, unit.now + round(DAY * 1_000))
    version = unit.secrets.valid([endpoint_id], unit.now)[endpoint_id][0].version + 1
    unit.secrets.add(endpoint, version, secret, unit.now, promoted=promoted)


def test_the_events_of_a_customer_arrive_in_order_across_retries_and_a_crash() -> None:
    async def story(stage: Stage) -> None:
        def answer(hit: Hit) -> Reply:
            if hit.mark == "001" and hit.attempt < 3:
                return FAILS
            return Reply(wait_s=5.0 if hit.mark == "003" and hit.server == "first" else 0.01)

        first = stage.server("first")
        shop = stage.endpoint(answer, ordering="customer")
        stage.happen(shop, *numbered(6), customer_id="cus_1")
        await stage.until(lambda: "003" in shop.marks)
        first.kill()
        stage.server("second")
        await stage.until(lambda: stage.statuses(shop) == {"succeeded"})
        assert shop.marks == ["000", "001", "001", "001", "002", "003", "003", "004", "005"]
        assert [hit.server for hit in shop.hits[-4:]] == ["first", "second", "second", "second"]

    play(story)


def test_a_slow_database_repeats_no_delivery() -> None:
    async def story(stage: Stage) -> None:
        stage.server()
        shop = stage.endpoint()
        stage.happen(shop, *numbered(200))
        await stage.until(lambda: stage.statuses(shop) == {"succeeded"})
        assert sorted(shop.marks) == numbered(200)

    play(story, faults=SlowStore(1.5))


def test_retry_after_pauses_all_deliveries_to_the_endpoint() -> None:
    async def story(stage: Stage) -> None:
        stage.server()
        shop = stage.endpoint(lambda hit: Reply(429, retry_after_s=120) if hit.at_s < 1 else Reply())
        stage.happen(shop, "first")
        await pass_time(10)
        stage.happen(shop, "second")
        await stage.until(lambda: stage.statuses(shop) == {"succeeded"})
        early = [hit for hit in shop.hits if hit.at_s < 120]
        assert [hit.mark for hit in early] == ["first"]

    play(story)


def test_an_endpoint_gets_no_more_in_a_second_than_its_owner_allows() -> None:
    async def story(stage: Stage) -> None:
        stage.server("one")
        stage.server("two")
        shop = stage.endpoint(rate_limit=6)
        await pass_time(5)
        stage.happen(shop, *numbered(60))
        await stage.until(lambda: stage.statuses(shop) == {"succeeded"})
        assert most_in_any_second(shop.hits) <= 6
        assert shop.hits[-1].at_s - shop.hits[0].at_s < 30, "it gets all that its limit allows"

    play(story)


def test_requests_with_another_secret_count_against_the_rate_limit_too() -> None:
    async def story(stage: Stage) -> None:
        stage.server()

        def knows_the_old_secret(hit: Hit) -> Reply:
            expected = hmac.new(SECRET.encode(), hit.body, hashlib.sha256).hexdigest()
            return Reply(200 if hit.headers["X-LoyalPro-Signature"] == expected else 401)

        shop = stage.endpoint(knows_the_old_secret, rate_limit=6)
        newer = new_secret(b"1" * 32)
        stage.change(lambda unit: rotate(unit, shop.account_id, shop.endpoint_id, newer, promoted=True))
        stage.happen(shop, *numbered(30))
        await stage.until(lambda: stage.statuses(shop) == {"succeeded"})
        assert len(shop.hits) == 60, "each was refused once, and sent again"
        assert most_in_any_second(shop.hits) <= 6 + 1

    play(story)


@pytest.mark.parametrize(
    ("refuses_after_s", "sent_again_after_s"),
    [(0.0, [0.0]), (29.5, [29.5]), (30.0, [])],
    ids=["at once", "late", "too late"],
)
def test_a_request_with_another_secret_has_the_remaining_time_of_the_attempt(
    refuses_after_s: float, sent_again_after_s: list[float]
) -> None:
    async def story(stage: Stage) -> None:
        stage.server()

        def knows_the_old_secret(hit: Hit) -> Reply:
            expected = hmac.new(SECRET.encode(), hit.body, hashlib.sha256).hexdigest()
            genuine = hit.headers["X-LoyalPro-Signature"] == expected
            return Reply(200, wait_s=0.8) if genuine else Reply(401, wait_s=refuses_after_s)

        shop = stage.endpoint(knows_the_old_secret)
        newer = new_secret(b"1" * 32)
        stage.change(lambda unit: rotate(unit, shop.account_id, shop.endpoint_id, newer, promoted=True))
        stage.happen(shop, "one")
        await stage.until(lambda: stage.deliveries(shop)[0].attempts == 1)
        first, *again = [hit.at_s for hit in shop.hits if hit.attempt == 1]
        assert [at_s - first for at_s in again] == pytest.approx(sent_again_after_s)
        assert stage.statuses(shop) == {"succeeded" if refuses_after_s + 0.8 < 30 else "pending"}

    play(story)


def test_a_request_whose_connection_ends_is_sent_again_at_once_and_counts_as_nothing() -> None:
    """No attempt number, no wait, no failure of the endpoint, no share of its rate limit; and it is recorded."""

    async def story(stage: Stage) -> None:
        stage.server()
        sent: set[str] = set()

        def first_ends(hit: Hit) -> Reply:
            repeated = hit.mark in sent
            sent.add(hit.mark)
            return Reply() if repeated else ENDS

        shop = stage.endpoint(first_ends, rate_limit=50)
        stage.happen(shop, *numbered(100))
        await stage.until(lambda: stage.statuses(shop) == {"succeeded"}, longest_s=3)
        assert len(shop.hits) == 200
        assert {hit.attempt for hit in shop.hits} == {1}
        for attempt in stage.attempts(shop):
            assert [each.outcome for each in attempt.requests] == ["connection_lost", "succeeded"]
            assert attempt.deciding.outcome == "succeeded"
        assert stage.notices() == []

    play(story)


def test_a_receiver_that_always_ends_the_connection_gets_five_requests_in_an_attempt() -> None:
    async def story(stage: Stage) -> None:
        stage.server()
        shop = stage.endpoint(lambda hit: Reply() if hit.attempt == 2 else ENDS)
        stage.happen(shop, "one")
        await stage.until(lambda: stage.statuses(shop) == {"succeeded"})
        first, second = stage.attempts(shop)
        assert [each.outcome for each in first.requests] == ["connection_lost"] * 5
        assert (first.deciding.outcome, len(second.requests)) == ("connection_lost", 1)
        assert [hit.attempt for hit in shop.hits] == [1] * 5 + [2]
        assert shop.hits[5].at_s - shop.hits[4].at_s > 1, "a failure, which is retried later"

    play(story)


def test_repeated_requests_have_the_remaining_time_of_the_attempt() -> None:
    async def story(stage: Stage) -> None:
        stage.server()
        shop = stage.endpoint(lambda hit: Reply(wait_s=20.0, ends=True) if hit.attempt == 1 else Reply())
        stage.happen(shop, "one")
        await stage.until(lambda: len(stage.attempts(shop)) == 1)
        [attempt] = stage.attempts(shop)
        assert [each.outcome for each in attempt.requests] == ["connection_lost", "timeout"]
        assert shop.hits[1].at_s - shop.hits[0].at_s == pytest.approx(20)

    play(story)


def test_requests_that_are_repeated_and_requests_with_other_secrets_share_an_attempt() -> None:
    async def story(stage: Stage) -> None:
        stage.server()

        def ends_every_second_one_and_knows_the_old_secret(hit: Hit) -> Reply:
            if len(shop.hits) % 2:
                return ENDS
            expected = hmac.new(SECRET.encode(), hit.body, hashlib.sha256).hexdigest()
            return Reply(200 if hit.headers["X-LoyalPro-Signature"] == expected else 401)

        shop = stage.endpoint(ends_every_second_one_and_knows_the_old_secret)
        newer = [new_secret(bytes([number]) * 32) for number in (1, 2)]

        def rotate_twice(unit: UnitOfWork) -> None:
            for secret in newer:
                rotate(unit, shop.account_id, shop.endpoint_id, secret, promoted=True)

        stage.change(rotate_twice)
        stage.happen(shop, "one")
        await stage.until(lambda: stage.statuses(shop) == {"succeeded"})
        [attempt] = stage.attempts(shop)
        found = [each.response_status for each in attempt.requests]
        assert found == [None, 401, None, 401, None, 200]
        assert len({dict(each.request_headers)["X-LoyalPro-Signature"] for each in attempt.requests}) == 3

    play(story)


def test_one_busy_account_leaves_slots_for_another() -> None:
    async def story(stage: Stage) -> None:
        stage.server()
        busy = stage.account()
        slow = [stage.endpoint(lambda _: Reply(wait_s=20.0), account_id=busy) for _ in range(10)]
        stage.happen(slow[0], *numbered(30))
        await pass_time(5)
        assert sum(len(each.hits) for each in slow) < 20
        shop = stage.endpoint()
        stage.happen(shop, "mine")
        await pass_time(1)
        assert shop.marks == ["mine"]
        assert {each.status.value for each in stage.deliveries(slow[0])} == {"pending"}

    play(story, bounds=Bounds(in_flight=20))


def test_an_attempt_that_takes_too_long_ends_and_is_retried() -> None:
    async def story(stage: Stage) -> None:
        stage.server()
        shop = stage.endpoint(lambda hit: Reply(wait_s=60.0 if hit.attempt == 1 else 0.01))
        stage.happen(shop, "slow")
        await stage.until(lambda: stage.statuses(shop) == {"succeeded"})
        first, second = shop.hits
        assert second.at_s - first.at_s > 30

    play(story, replace(HOURS, timeout_s=30.0))
