"""What churn scoring needs of the database."""

from collections.abc import Collection, Sequence
from datetime import date
from typing import Protocol

from loyalpro.kernel.clock import UnixMs
from loyalpro.loyalty.churn.entities import ChurnModel, ChurnRun, CustomerScore, ListedScore, PurchaseDays, RunStatus
from loyalpro.loyalty.churn.levels import Level, Standing
from loyalpro.loyalty.churn.settings import ChurnSettings


class ChurnStore(Protocol):
    """Settings, models, runs and scores, inside one database transaction."""

    # -- settings and the schedule -----------------------------------------------------------------------------------

    def settings(self, account_id: str) -> ChurnSettings:
        """The settings of an account; the default ones until it has set others."""
        ...

    def put_settings(self, account_id: str, settings: ChurnSettings, now: UnixMs) -> None:
        """Store settings. Nothing is scheduled while they are not enabled; a run is due at once when they become enabled."""
        ...

    def due_accounts(self, now: UnixMs, limit: int) -> list[str]:
        """Accounts for which a scheduled run is due."""
        ...

    def schedule(self, account_id: str, now: UnixMs, next_run_at: UnixMs) -> bool:
        """Set the time of the run after the one that is due; False when none is due."""
        ...

    # -- models ------------------------------------------------------------------------------------------------------

    def put_model(self, model: ChurnModel) -> None:
        """Store a model, in place of the one of the same day."""
        ...

    def model(self, account_id: str, as_of: date) -> ChurnModel | None:
        """The newest model that was made as of a day or before it."""
        ...

    # -- runs --------------------------------------------------------------------------------------------------------

    def insert_run(self, run: ChurnRun) -> None:
        """Store a new run."""
        ...

    def run(self, account_id: str, run_id: str) -> ChurnRun | None:
        """One run."""
        ...

    def unfinished_runs(self, account_id: str) -> int:
        """How many runs of an account are queued or running."""
        ...

    def runnable(self, limit: int) -> list[ChurnRun]:
        """The oldest unfinished run of each account, oldest first."""
        ...

    def claim(self, run_id: str, now: UnixMs, until: UnixMs) -> bool:
        """Keep other processes from preparing a queued run, until an instant. False when another process has claimed it."""
        ...

    def lock_run(self, run_id: str, status: RunStatus) -> ChurnRun | None:
        """A run, locked; None when it has another status, or when another transaction has locked it."""
        ...

    def begin(self, run: ChurnRun) -> None:
        """Store what was decided for a queued run, which is running from then on."""
        ...

    def advance(self, run: ChurnRun) -> None:
        """Store cursor, counts and status of a running run."""
        ...

    def fail(self, run_id: str, now: UnixMs) -> None:
        """End an unfinished run that cannot continue."""
        ...

    def last_run(self, account_id: str) -> ChurnRun | None:
        """The last run that has set levels, if only of some customers."""
        ...

    def has_scheduled_run(self, account_id: str) -> bool:
        """Whether a scheduled run has set the levels of all customers."""
        ...

    def was_imported(self, account_id: str, since: UnixMs) -> bool:
        """Whether an import of purchases worked since an instant."""
        ...

    def remove_old(self, account_id: str, before: UnixMs) -> None:
        """Remove models that were made, and runs that ended, before an instant."""
        ...

    # -- customers and their scores ----------------------------------------------------------------------------------

    def next_customers(self, account_id: str, after_id: str, limit: int) -> list[str]:
        """The ids of the next active customers that are not blocked, in their order, without a lock."""
        ...

    def purchase_days(self, customer_ids: Collection[str], as_of: date) -> dict[str, PurchaseDays]:
        """The days of these customers, of which there is at least one, with net purchases; without customers that have none."""
        ...

    def standings(self, customer_ids: Collection[str]) -> dict[str, Standing]:
        """The stored levels of these customers, of which there is at least one."""
        ...

    def replace_scores(
        self, account_id: str, after_id: str, last_id: str | None, scores: Sequence[CustomerScore]
    ) -> None:
        """Put scores in place of all that the account has from behind one customer to another one, or to the last."""
        ...

    def list_scores(
        self, account_id: str, level: Level | None, customer_id: str | None, after_id: str, limit: int
    ) -> list[ListedScore]:
        """The next scores of active customers behind a customer, in the order of the customers' ids."""
        ...
