"""The checker finds each modification of a correct run."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from chaos.checker import Kind, TakeOver, Verdict
from chaos.report import RunReport, page, rows
from support.chaos_runs import Lines, ModifiedRun, Run

RECOVERED_MS = 5_000
"""A time before the run: the end of a fault of the database."""


@pytest.fixture
def modified(sqlite_run: Run, tmp_path: Path) -> ModifiedRun:
    return ModifiedRun(Path(shutil.copytree(sqlite_run.folder, tmp_path / "run")))


def test_a_correct_run_has_no_findings(modified: ModifiedRun) -> None:
    assert modified.check_run().findings == []


def lost_event(run: ModifiedRun) -> None:
    run.sql(
        f"DELETE FROM attempts WHERE delivery_id IN (SELECT id FROM deliveries WHERE event_id = '{run.event}')",
        f"DELETE FROM deliveries WHERE event_id = '{run.event}'",
        f"DELETE FROM events WHERE id = '{run.event}'",
    )
    run.change("hits", lambda lines: keep(lines, lambda line: line["event"] != run.event))


def lost_purchase(run: ModifiedRun) -> None:
    run.sql("DELETE FROM transactions WHERE id = (SELECT MIN(id) FROM transactions)")


def missing_delivery_row(run: ModifiedRun) -> None:
    run.sql(
        f"DELETE FROM attempts WHERE delivery_id = '{run.delivery}'",
        f"DELETE FROM deliveries WHERE id = '{run.delivery}'",
        f"UPDATE events SET owed = owed - 1 WHERE id = '{run.event}'",
    )
    run.without_hits()


def delivery_that_was_counted_but_not_written(run: ModifiedRun) -> None:
    run.sql(f"UPDATE events SET owed = owed + 1 WHERE id = '{run.event}'")


def success_that_never_arrived(run: ModifiedRun) -> None:
    run.without_hits()


def success_that_the_receiver_refused(run: ModifiedRun) -> None:
    run.hit(behavior="server_error")


def success_by_another_attempt(run: ModifiedRun) -> None:
    run.sql(f"UPDATE attempts SET outcome = 'timeout' WHERE delivery_id = '{run.delivery}'")


def canceled_without_cause(run: ModifiedRun) -> None:
    run.sql(f"UPDATE deliveries SET status = 'canceled' WHERE id = '{run.delivery}'")


def still_pending(run: ModifiedRun) -> None:
    run.sql(f"UPDATE deliveries SET status = 'pending', finished_at = NULL WHERE id = '{run.delivery}'")


def parked(run: ModifiedRun) -> None:
    still_pending(run)
    run.sql(f"UPDATE endpoints SET status = 'disabled' WHERE id = '{run.endpoint}'")


def never_acknowledged(run: ModifiedRun) -> None:
    run.change("producer", lambda lines: keep(lines, lambda line: line["kind"] != "ok"))


def request_for_no_delivery(run: ModifiedRun) -> None:
    run.second_hit(delivery="dlv_unknown")


def purchase_recorded_twice(run: ModifiedRun) -> None:
    same = (
        "account_id, customer_id, status, currency, amount, items, channel, location_id, employee_id, metadata,"
        " points_earned, occurred_at, created_at"
    )
    run.sql(f"INSERT INTO transactions (id, {same}) SELECT 'txn_twice', {same} FROM transactions LIMIT 1")


def event_without_a_cause(run: ModifiedRun) -> None:
    run.sql(
        "INSERT INTO events (id, account_id, type, customer_id, sequence, created_at, owed, body)"
        " SELECT 'evt_x', account_id, type, 'cus_x', 1, created_at, 0, CAST(replace(CAST(body AS TEXT), id, 'evt_x') AS BLOB)"
        f" FROM events WHERE id = '{run.event}'"
    )


def delivery_to_an_endpoint_without_the_subscription(run: ModifiedRun) -> None:
    run.change("run", lambda lines: change(lines, "subscribed", endpoint=run.endpoint, types=["customer.created"]))


def delivery_to_an_unknown_endpoint(run: ModifiedRun) -> None:
    run.change("run", lambda lines: keep(lines, lambda line: line.get("endpoint") != run.endpoint))


def purchase_that_was_to_be_refused(run: ModifiedRun) -> None:
    def refuse(lines: Lines) -> None:
        for line in lines:
            for purchase in line.get("purchases", ()):
                purchase[3] = True

    run.change("producer-0", refuse)


def transaction_without_a_producer(run: ModifiedRun) -> None:
    run.change("producer-0", list.clear)


def body_changed_on_the_way(run: ModifiedRun) -> None:
    run.hit(sha256="0" * 64)


def body_changed_in_the_database(run: ModifiedRun) -> None:
    run.sql(f"UPDATE events SET body = CAST(CAST(body AS TEXT) || ' ' AS BLOB) WHERE id = '{run.event}'")


def body_that_contradicts_its_row(run: ModifiedRun) -> None:
    run.sql(f"UPDATE events SET type = 'points.adjusted' WHERE id = '{run.event}'")


def event_id_changed_on_the_way(run: ModifiedRun) -> None:
    run.hit(event="evt_other")


def webhook_id_changed_on_the_way(run: ModifiedRun) -> None:
    run.hit(webhook="evt_other")


def delivered_to_another_endpoint(run: ModifiedRun) -> None:
    run.hit(endpoint="we_other")


def acknowledged_under_another_id(run: ModifiedRun) -> None:
    run.sql("UPDATE transactions SET id = 'txn_other' WHERE id = (SELECT MIN(id) FROM transactions)")


def signature_wrong(run: ModifiedRun) -> None:
    run.hit(signed=False)


def sent_again_after_success(run: ModifiedRun) -> None:
    run.second_hit(attempt=2)
    run.sql(f"INSERT INTO attempts SELECT delivery_id, 2, {ATTEMPT_REST} WHERE delivery_id = '{run.delivery}'")


def sent_again_without_a_record(run: ModifiedRun) -> None:
    run.second_hit(attempt=2)


def interrupted_without_a_fault(run: ModifiedRun) -> None:
    interrupted_by_a_fault(run)
    run.change("run", lambda lines: keep(lines, lambda line: line["kind"] not in {"fault", "repaired"}))


def interrupted_by_a_fault(run: ModifiedRun) -> None:
    run.second_hit(attempt=2)
    run.sql(
        f"INSERT INTO attempts SELECT delivery_id, 2, {ATTEMPT_REST} WHERE delivery_id = '{run.delivery}'",
        f"UPDATE attempts SET outcome = 'interrupted' WHERE delivery_id = '{run.delivery}' AND number = 1",
    )


def same_attempt_twice(run: ModifiedRun) -> None:
    run.second_hit()


def attempt_without_an_answer_of_nginx(run: ModifiedRun) -> None:
    run.change("run", lambda lines: lines[0].update(nginx=True))
    run.sql(f"UPDATE attempts SET outcome = 'connection_lost' WHERE delivery_id = '{run.delivery}'")


def nginx_that_was_not_reloaded(run: ModifiedRun) -> None:
    run.change("run", lambda lines: lines[0].update(nginx=True))


def attempt_without_a_record(run: ModifiedRun) -> None:
    run.second_hit(attempt=2, behavior="server_error")


def exhausted_early(run: ModifiedRun) -> None:
    run.sql(f"UPDATE deliveries SET status = 'exhausted' WHERE id = '{run.delivery}'")


def later_before_earlier(run: ModifiedRun) -> None:
    ordered = "SELECT id FROM endpoints WHERE ordering = 'customer'"
    last = run.rows(f"SELECT id FROM deliveries WHERE endpoint_id IN ({ordered}) ORDER BY sequence DESC LIMIT 1")[0][0]
    run.change("hits", lambda lines: change(lines, "hit", delivery=last, at=0))


def gap_in_a_sequence(run: ModifiedRun) -> None:
    run.sql(f"UPDATE events SET sequence = 10000 WHERE customer_id = '{run.customer}' AND sequence = 3")


def points_without_a_ledger_entry(run: ModifiedRun) -> None:
    run.sql(f"UPDATE customers SET available = available + 1 WHERE id = '{run.customer}'")


def points_posted_twice(run: ModifiedRun) -> None:
    run.sql(
        f"UPDATE customers SET available = available * 2 WHERE id = '{run.customer}'",
        f"UPDATE ledger_entries SET points = points * 2 WHERE customer_id = '{run.customer}'",
    )


def ledger_entry_missing(run: ModifiedRun) -> None:
    run.sql(f"DELETE FROM ledger_entries WHERE customer_id = '{run.customer}' AND sequence = 2")


def purchase_refused(run: ModifiedRun) -> None:
    def refuse(lines: Lines) -> None:
        results = next(line["results"] for line in lines if line["kind"] == "ok")
        results[0][1:] = [422, None]

    run.change("producer-0", refuse)


def request_refused(run: ModifiedRun) -> None:
    run.change("producer-0", lambda lines: lines.append({"kind": "refusal", "at": 1, "op": 1, "why": "400"}))


def process_that_crashed(run: ModifiedRun) -> None:
    database_down(run)
    process_ended(run, was_ready=True)


def process_that_did_not_start(run: ModifiedRun) -> None:
    process_ended(run, was_ready=False)


def process_that_did_not_start_after_the_database_was_back(run: ModifiedRun) -> None:
    database_down(run)
    process_ended(run, was_ready=False, began=RECOVERED_MS + 1, at=RECOVERED_MS + 100)


def process_ended(run: ModifiedRun, *, was_ready: bool, began: float = 1, at: float = RECOVERED_MS) -> None:
    line = {"kind": "ended", "at": at, "began": began, "product": "serve-1", "exit_code": 1, "was_ready": was_ready}
    run.change("run", lambda lines: lines.append(line))


def database_down(run: ModifiedRun) -> None:
    down = {"kind": "fault", "at": RECOVERED_MS - 100, "name": "restart"}
    up = {"kind": "repaired", "at": RECOVERED_MS, "name": "restart"}
    run.change("run", lambda lines: lines.extend([down, up]))


def fault_that_did_not_fire(run: ModifiedRun) -> None:
    run.change("run", lambda lines: lines[0]["asked"].update(kill=2))


def fault_that_raised(run: ModifiedRun) -> None:
    run.change("run", lambda lines: lines.append({"kind": "missed", "at": 1, "why": "serve-1 did not get ready"}))


ATTEMPT_REST = (
    "started_at, outcome, detail, request_headers, response_status, response_headers, response_excerpt,"
    " response_truncated, remote_ip, dns_ms, connect_ms, tls_ms, first_byte_ms, total_ms, requests, responses FROM attempts"
)

CASES: list[tuple[Callable[[ModifiedRun], None], Kind]] = [
    (lost_event, Kind.LOST),
    (lost_purchase, Kind.LOST),
    (missing_delivery_row, Kind.LOST),
    (delivery_that_was_counted_but_not_written, Kind.LOST),
    (success_that_never_arrived, Kind.LOST),
    (success_that_the_receiver_refused, Kind.LOST),
    (success_by_another_attempt, Kind.LOST),
    (canceled_without_cause, Kind.LOST),
    (still_pending, Kind.STUCK),
    (parked, Kind.STUCK),
    (never_acknowledged, Kind.STUCK),
    (request_for_no_delivery, Kind.PHANTOM),
    (purchase_recorded_twice, Kind.PHANTOM),
    (event_without_a_cause, Kind.PHANTOM),
    (delivery_to_an_endpoint_without_the_subscription, Kind.PHANTOM),
    (delivery_to_an_unknown_endpoint, Kind.PHANTOM),
    (purchase_that_was_to_be_refused, Kind.PHANTOM),
    (transaction_without_a_producer, Kind.PHANTOM),
    (body_changed_on_the_way, Kind.BODY),
    (body_changed_in_the_database, Kind.BODY),
    (body_that_contradicts_its_row, Kind.BODY),
    (event_id_changed_on_the_way, Kind.ID),
    (webhook_id_changed_on_the_way, Kind.ID),
    (delivered_to_another_endpoint, Kind.ID),
    (acknowledged_under_another_id, Kind.ID),
    (signature_wrong, Kind.SIGNATURE),
    (sent_again_after_success, Kind.DUPLICATE),
    (sent_again_without_a_record, Kind.DUPLICATE),
    (interrupted_without_a_fault, Kind.DUPLICATE),
    (same_attempt_twice, Kind.REPEATED),
    (attempt_without_a_record, Kind.UNRECORDED),
    (attempt_without_an_answer_of_nginx, Kind.UNANSWERED),
    (exhausted_early, Kind.EARLY),
    (later_before_earlier, Kind.ORDER),
    (gap_in_a_sequence, Kind.SEQUENCE),
    (points_without_a_ledger_entry, Kind.LEDGER),
    (points_posted_twice, Kind.LEDGER),
    (ledger_entry_missing, Kind.LEDGER),
    (purchase_refused, Kind.REFUSED),
    (request_refused, Kind.REFUSED),
    (process_that_crashed, Kind.CRASHED),
    (process_that_did_not_start, Kind.CRASHED),
    (process_that_did_not_start_after_the_database_was_back, Kind.CRASHED),
    (fault_that_did_not_fire, Kind.TOO_FEW),
    (fault_that_raised, Kind.TOO_FEW),
    (nginx_that_was_not_reloaded, Kind.TOO_FEW),
]


@pytest.mark.parametrize(("modify", "kind"), CASES, ids=[modify.__name__ for modify, _ in CASES])
def test_the_checker_finds_each_violation(
    modified: ModifiedRun, modify: Callable[[ModifiedRun], None], kind: Kind
) -> None:
    modify(modified)
    verdict = modified.check_run()
    assert verdict.found(kind)
    assert not verdict.passed


def test_every_kind_of_finding_has_a_case() -> None:
    assert {kind for _, kind in CASES} == set(Kind)


def test_a_duplicate_is_explained_by_a_recorded_interruption_with_a_fault_nearby(modified: ModifiedRun) -> None:
    before = modified.check_run().duplicates["fault: interrupted"]
    interrupted_by_a_fault(modified)
    verdict = modified.check_run()
    assert verdict.findings == []
    assert verdict.duplicates["fault: interrupted"] == before + 1


def test_an_attempt_may_arrive_as_often_as_it_has_requests(modified: ModifiedRun) -> None:
    """And at most five times when it was interrupted, because its requests could not be recorded."""
    modified.hit(behavior="lost_accept")
    modified.second_hit()
    two = '[{"started_at":1},{"started_at":2}]'
    modified.sql(f"UPDATE attempts SET requests = '{two}' WHERE delivery_id = '{modified.delivery}'")
    assert modified.check_run().found(Kind.REPEATED) == 0
    unknown = "outcome = 'interrupted', total_ms = NULL, requests = NULL"
    modified.sql(f"UPDATE attempts SET {unknown} WHERE delivery_id = '{modified.delivery}'")
    for hits in (3, 4, 5):
        modified.second_hit()
        assert modified.check_run().found(Kind.REPEATED) == 0, hits
    modified.second_hit()
    assert modified.check_run().found(Kind.REPEATED) == 1


def test_a_duplicate_is_explained_by_a_manual_resend(modified: ModifiedRun) -> None:
    sent_again_after_success(modified)
    resent = {"kind": "resent", "at": 1, "delivery": modified.delivery}
    modified.change("run", lambda lines: lines.append(resent))
    verdict = modified.check_run()
    assert verdict.found(Kind.DUPLICATE) == 0
    assert verdict.duplicates["resent manually"] == 1


def test_a_process_that_ends_during_its_start_while_the_database_is_broken_is_only_counted(
    modified: ModifiedRun,
) -> None:
    database_down(modified)
    process_ended(modified, was_ready=False)
    verdict = modified.check_run()
    assert verdict.findings == []
    assert verdict.counts["processes ended before they were ready"] == 1


def test_a_run_in_which_a_fault_did_not_fire_is_reported_as_incomplete(modified: ModifiedRun) -> None:
    fault_that_did_not_fire(modified)
    report = RunReport("sqlite", "7", "1 serve", 1.0, modified.check_run())
    assert page([report], "make chaos", "2026-11-26", "2 cores").count("NOT COMPLETE") == 1
    process_that_did_not_start(modified)
    report = RunReport("sqlite", "7", "1 serve", 1.0, modified.check_run())
    assert page([report], "make chaos", "2026-11-26", "2 cores").count("FAILED") == 1


@pytest.mark.parametrize(("next_attempt", "unseen"), [(2, 0), (3, 1)])
def test_a_take_over_counts_the_attempts_interrupted_before_they_arrived(
    modified: ModifiedRun, next_attempt: int, unseen: int
) -> None:
    killed_ms = interrupted_by_a_kill(modified, next_attempt)
    [mine] = [each for each in modified.check_run().taken_over if each.kill_ms == killed_ms]
    assert mine.unseen == unseen
    assert mine.waited_s == pytest.approx(7)


def test_deliveries_interrupted_again_are_reported_separately(modified: ModifiedRun) -> None:
    def lines(unseen: int) -> dict[str, str]:
        verdict = Verdict(
            taken_over=[TakeOver(1, 9.0, 0), TakeOver(1, 11.0, 0), TakeOver(2, 10.0, 0), TakeOver(2, 60.0, unseen)]
        )
        return dict(rows(RunReport("sqlite", "7", "1 serve", 1.0, verdict)))

    kills, each = "from a kill to the first delivery taken over", "from a kill to each delivery taken over"
    again = "the same, interrupted again before it arrived"
    assert lines(1)[kills] == "median 9.5 s, max 10.0 s (2 kills)"
    assert lines(1)[each] == "median 10.0 s, max 11.0 s (3 deliveries)"
    assert lines(1)[again] == "median 60.0 s, max 60.0 s (1 deliveries)"
    assert lines(0)[each] == "median 10.5 s, max 60.0 s (4 deliveries)"
    assert again not in lines(0)


def interrupted_by_a_kill(run: ModifiedRun, next_attempt: int) -> float:
    """Record a kill one second after the first request, and a second request 7 s later with this number; returns the time of the kill."""
    killed_ms = 0.0

    def add_hit(lines: Lines) -> None:
        nonlocal killed_ms
        first = next(line for line in lines if line["delivery"] == run.delivery)
        killed_ms = first["at"] + 1_000
        lines.append(first | {"at": killed_ms + 7_000, "attempt": next_attempt})

    run.change("hits", add_hit)
    kill = {"kind": "fault", "at": killed_ms, "name": "kill"}
    run.change("run", lambda lines: lines.extend([kill, {"kind": "repaired", "at": killed_ms, "name": "kill"}]))
    run.sql(
        *(
            f"INSERT INTO attempts SELECT delivery_id, {number}, {ATTEMPT_REST}"
            f" WHERE delivery_id = '{run.delivery}' AND number = 1"
            for number in range(2, next_attempt + 1)
        ),
        f"UPDATE attempts SET outcome = 'interrupted' WHERE delivery_id = '{run.delivery}' AND number < {next_attempt}",
    )
    return killed_ms


def keep(lines: Lines, wanted: Callable[[dict[str, object]], bool]) -> None:
    """Keep only the lines that are wanted."""
    lines[:] = [line for line in lines if wanted(line)]


def change(lines: Lines, kind: str, **fields: object) -> None:
    """Change the line of this kind that has the first of these fields."""
    name, value = next(iter(fields.items()))
    next(line for line in lines if line["kind"] == kind and line[name] == value).update(fields)
