"""Writes rows into a database before the server starts, by the program's own transactions, in this process."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self, TypeVar

from pydantic import SecretStr

from bench.server import API_KEY, SECRET_KEY
from loyalpro import bootstrap
from loyalpro.accounts.accounts import CreateAccount, create_account
from loyalpro.accounts.api_keys import authenticate_key, new_key
from loyalpro.accounts.scopes import SCOPES
from loyalpro.app import Application
from loyalpro.delivery.states import EndpointStatus
from loyalpro.events.new_event import NewEvent
from loyalpro.events.samples import sample
from loyalpro.kernel.clock import Clock
from loyalpro.loyalty.new_program import start_program
from loyalpro.settings import Settings
from loyalpro.storage.unit_of_work import UnitOfWork
from loyalpro.storage.vault import Vault
from loyalpro.webhooks.entities import Endpoint
from loyalpro.webhooks.secrets import FIRST_VERSION

T = TypeVar("T")
EVENT_TYPE = "points.earned"
_BATCH = 500
_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Past:
    """An application without engine and API, which only writes."""

    def __init__(self, url: str, folder: Path, clock: Clock | None = None) -> None:
        settings = Settings(
            database_url=SecretStr(url),
            secret_key=SecretStr(SECRET_KEY),
            bootstrap_api_key=SecretStr(API_KEY),
            data_dir=folder,
        )
        self._application = Application(settings, clock)
        self._runner = asyncio.Runner()
        self._runner.run(self._application.database.start())
        self._runner.run(
            bootstrap.prepare_first_account(self._application.runner, settings, self._application.passwords)
        )
        self.account_id = self._change(lambda unit: authenticate_key(unit, API_KEY)).account_id

    @property
    def vault(self) -> Vault:
        """The vault that opens the secrets of the endpoints."""
        return self._application.vault

    def account(self, api_key: str) -> str:
        """Add an account; its id."""

        def work(unit: UnitOfWork) -> str:
            account = create_account(unit, CreateAccount("Another"))
            start_program(unit, account.id)
            new_key(unit, account.id, name="bench", api_key=api_key, scopes=SCOPES)
            return account.id

        return self._change(work)

    def endpoints(self, account_id: str, urls: Sequence[str], *, status: str = "enabled") -> list[str]:
        """Add endpoints for all event types; their ids."""

        def work(unit: UnitOfWork) -> list[str]:
            made = [_endpoint(unit, account_id, url, EndpointStatus(status)) for url in urls]
            for each in made:
                unit.endpoints.insert(each)
                unit.secrets.add(each, FIRST_VERSION, _SECRET, unit.now, promoted=True)
            return [each.id for each in made]

        return self._change(work)

    def events(self, account_id: str, count: int) -> None:
        """Add events, with a pending delivery to every endpoint of the account."""

        def work(unit: UnitOfWork, many: int) -> None:
            for _ in range(many):
                unit.outbox.emit(NewEvent(account_id, EVENT_TYPE, None, None, sample(EVENT_TYPE, unit.now)))

        for start in range(0, count, _BATCH):
            many = min(_BATCH, count - start)
            self._change(lambda unit, many=many: work(unit, many))  # type: ignore[misc]

    def enable_all(self) -> None:
        """Enable all endpoints in the table itself: through the API, the backlog would be sent at a rising rate."""
        self._change(lambda unit: unit.connection.execute("UPDATE endpoints SET status = 'enabled'"))

    def _change(self, work: Callable[[UnitOfWork], T]) -> T:
        return self._runner.run(self._application.runner.change(work))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._application.database.stop())
        self._runner.close()


def _endpoint(unit: UnitOfWork, account_id: str, url: str, status: EndpointStatus) -> Endpoint:
    return Endpoint(
        id=unit.ids.new("we"),
        account_id=account_id,
        url=url,
        description=None,
        types=("*",),
        ordering="none",
        rate_limit=None,
        headers={},
        status=status,
        status_reason=None,
        created_at=unit.now,
        updated_at=unit.now,
    )
