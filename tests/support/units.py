"""Units of work without a running application, and the rows that tests begin with."""

import random
from collections.abc import Callable, Iterable

from loyalpro.delivery.states import EndpointStatus
from loyalpro.jobs.periodic_job import JobKind
from loyalpro.kernel.clock import Clock, SystemClock
from loyalpro.kernel.ids import IdFactory
from loyalpro.storage.connection import Connection
from loyalpro.storage.database import Database
from loyalpro.storage.unit_of_work import DatabaseUnitOfWorkRunner, Tools, UnitOfWork, WakeEndpoints
from loyalpro.storage.vault import Vault
from loyalpro.webhooks.entities import Endpoint
from loyalpro.webhooks.secrets import FIRST_VERSION
from support.history import VAULT


def tools(seed: int = 1, *, clock: Clock | None = None, vault: Vault = VAULT) -> Tools:
    """What a unit of work needs besides its connection."""
    used, rng = clock or SystemClock(), random.Random(seed)
    return Tools(used, IdFactory(used, rng), vault, rng.randbytes)


def unit_on(connection: Connection, seed: int = 1) -> UnitOfWork:
    """A unit of work in the transaction that is open on a connection."""
    return UnitOfWork(connection, tools(seed))


def wake_nothing(endpoint_ids: Iterable[str], *, urgent: bool = False) -> None:
    """The engine of a test that has none."""


def runner_on(
    database: Database,
    seed: int = 1,
    *,
    wake_endpoints: WakeEndpoints = wake_nothing,
    wake_job: Callable[[JobKind], None] = lambda _: None,
) -> DatabaseUnitOfWorkRunner:
    """Runs units of work on an open database."""
    return DatabaseUnitOfWorkRunner(database, tools(seed), wake_endpoints=wake_endpoints, wake_job=wake_job)


def new_endpoint(
    unit: UnitOfWork, account_id: str, url: str, *, ordering: str = "none", status: str = "enabled"
) -> Endpoint:
    """An endpoint for events of every type."""
    return Endpoint(
        id=unit.ids.new("we"),
        account_id=account_id,
        url=url,
        description=None,
        types=("*",),
        ordering=ordering,
        rate_limit=None,
        headers={},
        status=EndpointStatus(status),
        status_reason=None,
        created_at=unit.now,
        updated_at=unit.now,
    )


def insert_endpoint(unit: UnitOfWork, made: Endpoint, secret: str) -> None:
    """Store an endpoint with its first secret."""
    unit.endpoints.insert(made)
    unit.secrets.add(made, FIRST_VERSION, secret, unit.now, promoted=True)
