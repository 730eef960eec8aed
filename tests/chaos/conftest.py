"""One small run of each store, shared by all tests."""

import pytest

from support.chaos_runs import Run, quick_run


@pytest.fixture(scope="session")
def sqlite_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return quick_run("sqlite", tmp_path_factory.mktemp("chaos-sqlite"))


@pytest.fixture(scope="session")
def postgres_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return quick_run("postgres", tmp_path_factory.mktemp("chaos-postgres"))
