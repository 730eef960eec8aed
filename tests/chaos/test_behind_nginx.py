"""Receivers behind a real nginx that is reloaded under load, and the page of such runs."""

from pathlib import Path

from chaos.checker import Verdict
from chaos.merchant import BEHIND_NGINX
from chaos.report import RunReport, examples, page, with_part
from chaos.run import Plan, run
from support.chaos_runs import RETRIES_S


def test_every_delivery_arrives_while_nginx_is_reloaded_and_no_attempt_is_without_an_answer(tmp_path: Path) -> None:
    plan = Plan(
        store="sqlite",
        pairs=3_000,
        seed="nginx",
        faults={"kill": 1},
        customers=10,
        retries_s=RETRIES_S,
        endpoints=BEHIND_NGINX,
        reload_nginx_every_s=0.5,
    )
    verdict = run(plan, tmp_path, lambda _done, _phase: None)
    assert examples(verdict) == []
    assert verdict.counts["reloads of nginx"] > 3
    assert verdict.counts["requests sent again within their attempt"] > 0
    assert verdict.counts["delivered"] > 600


def test_the_page_keeps_the_part_about_other_runs() -> None:
    def part(seed: str, *, behind_nginx: bool) -> str:
        report = RunReport("sqlite", seed, "1 serve", 1.0, Verdict(), behind_nginx)
        return page([report], "make chaos", "2026-11-28", "2 cores")

    text = with_part(part("1", behind_nginx=False), part("2", behind_nginx=True))
    assert [line for line in text.splitlines() if line.startswith("# ")] == ["# Chaos", "# Chaos behind nginx"]
    assert "seed 1:" in text
    assert "behind nginx, seed 2:" in text
    assert with_part(text, part("2", behind_nginx=True)) == text
    newer = with_part(text, part("3", behind_nginx=False))
    assert "seed 1:" not in newer
    assert newer.index("seed 3:") < newer.index("seed 2:")
