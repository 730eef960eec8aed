"""What the past of a demo is made with."""

import asyncio
import random
from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import SecretStr

from loyalpro.cli.demo import week
from loyalpro.cli.demo.fast_time import FastClock, FastLoop
from loyalpro.cli.demo.history import write_history
from loyalpro.kernel.clock import MS_PER_DAY
from loyalpro.settings import Settings

NOW = 1_780_000_000_000


def test_a_past_that_is_stopped_says_so(tmp_path: Path) -> None:
    settings = Settings(
        database_url=SecretStr(f"sqlite:///{tmp_path / 'loyalpro.db'}"), egress_allow=(ip_network("127.0.0.0/8"),)
    )
    seen: list[int] = []
    with asyncio.Runner(loop_factory=FastLoop) as runner:
        written = write_history(
            settings,
            "https://localhost:4433",
            now=NOW,
            rng=random.Random(7),
            report=lambda done, _: seen.append(done),
            is_stopped=lambda: len(seen) == 3,
        )
        assert not runner.run(written)
    assert seen == [1, 2, 3]


@pytest.mark.parametrize("seed", range(20))
def test_a_plan_is_in_order_and_names_only_what_was_there(seed: int) -> None:
    steps = week.plan(random.Random(seed), NOW)
    assert [each.at for each in steps] == sorted(each.at for each in steps)
    assert NOW - week.DAYS * MS_PER_DAY < steps[0].at <= steps[-1].at < NOW
    enrolled, bought = set[int](), set[str]()
    for step in steps:
        match step:
            case week.Enrolls():
                enrolled.add(step.customer)
            case week.Buys():
                assert step.customer in enrolled
                assert step.number not in bought
                bought.add(step.number)
            case week.Returns():
                assert step.number in bought
            case week.Redeems() | week.Gift():
                assert step.customer in enrolled
    assert enrolled == set(range(len(week.NAMES)))


def test_time_jumps_to_the_next_timer_and_stands_still_for_a_thread() -> None:
    async def story() -> list[float]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, FastLoop)
        clock, never, seen = FastClock(loop, NOW), asyncio.Event(), list[float]()
        await clock.wait(never, 3_600)
        seen.append(clock.monotonic_s())
        timer = asyncio.create_task(clock.wait(never, 60))
        with loop.standing_still():
            await asyncio.to_thread(sum, range(3_000_000))  # long enough that the loop has nothing to do meanwhile
            seen.append(clock.monotonic_s())
        await timer
        seen.append((clock.now_ms() - NOW) / 1_000)
        return seen

    with asyncio.Runner(loop_factory=FastLoop) as runner:
        assert runner.run(story()) == pytest.approx([3_600, 3_600, 3_660])
