"""What every test may ask for."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from support.databases import Databases
from support.history import keeping_connections
from support.receivers import Authority

settings.register_profile(
    "loyalpro", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("loyalpro")

STORES = ("sqlite", "postgres")


@pytest.fixture(autouse=True, scope="session")
def _clean_environment() -> None:
    """No variable of the person who runs the tests reaches what they test."""
    for name in [name for name in os.environ if name.startswith("LOYALPRO_") and "_TEST_" not in name]:
        del os.environ[name]


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    made = Databases(tmp_path_factory.mktemp("databases"))
    yield made
    made.stop()


@pytest.fixture(autouse=True, scope="module")
def _databases_of_a_module(databases: Databases) -> Iterator[None]:
    """The databases of a module are gone after it."""
    yield
    databases.drop_all()


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def database_url(databases: Databases, store: str) -> Iterator[str]:
    """The URL of a database of the test, which is gone after it."""
    url = databases.fresh(store)
    yield url
    databases.drop(url)


@pytest.fixture
def one_connection(database_url: str) -> Iterator[None]:
    """For tests that read and write the database often: `query` and `transaction` share a connection."""
    with keeping_connections(database_url):
        yield


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))
