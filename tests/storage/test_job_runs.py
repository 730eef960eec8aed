"""The table job_runs: the last run of each periodic job, in any process."""

from dataclasses import replace

from loyalpro.jobs.periodic_job import JobRun, LastRun
from loyalpro.jobs.ports import record_job_runs
from support.history import transaction
from support.units import unit_on

CHANGED = JobRun("retention", "host:1", started_at=1_000, finished_at=1_500, pieces=3, items=407)
IDLE = JobRun("retention", "host:2", started_at=2_000, finished_at=2_100, pieces=1, items=0)
FAILED = JobRun(
    "retention", "host:2", started_at=3_000, finished_at=3_100, pieces=0, items=0, error="store_unavailable"
)


def record(url: str, *runs: JobRun) -> None:
    with transaction(url) as connection:
        record_job_runs(unit_on(connection), runs)


def stored(url: str) -> list[LastRun]:
    with transaction(url) as connection:
        return unit_on(connection).job_runs.list_all()


def test_a_run_is_stored_with_its_changes(database_url: str) -> None:
    record(database_url, CHANGED)
    assert stored(database_url) == [LastRun(CHANGED, changed_at=1_500, changed_items=407)]


def test_a_run_without_changes_is_stored_without_a_time_of_changes(database_url: str) -> None:
    record(database_url, IDLE)
    assert stored(database_url) == [LastRun(IDLE, changed_at=None, changed_items=None)]


def test_a_later_run_of_another_process_takes_the_place_of_an_earlier_one(database_url: str) -> None:
    later = replace(CHANGED, process="host:2", started_at=1_400, finished_at=1_600, items=5)
    record(database_url, CHANGED)
    record(database_url, later)
    assert stored(database_url) == [LastRun(later, changed_at=1_600, changed_items=5)]


def test_an_older_run_does_not_take_the_place_of_a_later_one(database_url: str) -> None:
    record(database_url, FAILED)
    record(database_url, CHANGED)
    assert stored(database_url) == [LastRun(FAILED, changed_at=None, changed_items=None)]


def test_runs_that_are_idle_or_fail_keep_the_last_change(database_url: str) -> None:
    record(database_url, CHANGED)
    record(database_url, IDLE)
    assert stored(database_url) == [LastRun(IDLE, changed_at=1_500, changed_items=407)]
    record(database_url, FAILED)
    assert stored(database_url) == [LastRun(FAILED, changed_at=1_500, changed_items=407)]


def test_several_runs_of_one_job_can_be_recorded_at_once_in_the_order_of_their_times(database_url: str) -> None:
    record(database_url, CHANGED, FAILED)
    assert stored(database_url) == [LastRun(FAILED, changed_at=1_500, changed_items=407)]


def test_each_job_has_one_row_and_rows_are_listed_by_the_name_of_the_job(database_url: str) -> None:
    other = replace(IDLE, job="erasures")
    record(database_url, CHANGED, other)
    record(database_url, IDLE)
    assert [each.run for each in stored(database_url)] == [other, IDLE]
