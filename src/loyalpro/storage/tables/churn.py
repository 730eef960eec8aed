"""Settings, models, runs and scores of churn. Satisfies `loyalty.churn.ports.ChurnStore`."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import date
from typing import Any, Final

import msgspec

from loyalpro.kernel.clock import UnixMs
from loyalpro.loyalty.churn.entities import ChurnModel, ChurnRun, CustomerScore, ListedScore, PurchaseDays, RunStatus
from loyalpro.loyalty.churn.levels import Level, Standing
from loyalpro.loyalty.churn.mbg_nbd import Parameters
from loyalpro.loyalty.churn.settings import ChurnSettings
from loyalpro.loyalty.expiry import NEVER, date_of, number_of
from loyalpro.storage.connection import Connection
from loyalpro.storage.dialect import DialectSql
from loyalpro.storage.rows import FLAG, Codec, RowMapper
from loyalpro.storage.sql import marks, padded_chunks, padded_list, where


def _json(kind: Any) -> Codec:
    return Codec(lambda value: msgspec.json.encode(value).decode(), lambda text: msgspec.json.decode(text, type=kind))


_DAY: Final = Codec(number_of, date_of)
_PARAMETERS: Final = _json(Parameters)
_SETTINGS: Final = _json(ChurnSettings)
_MODELS: Final = RowMapper(ChurnModel, "churn_models", codecs={"parameters": _PARAMETERS})
_RUNS: Final = RowMapper(
    ChurnRun,
    "churn_runs",
    codecs={
        "as_of": _DAY,
        "requested": FLAG,
        "baseline": FLAG,
        "settings": _SETTINGS,
        "parameters": _PARAMETERS,
        "histogram": _json(tuple[int, ...]),
    },
)
_SCORES: Final = RowMapper(
    CustomerScore,
    "churn_scores",
    codecs={f"standing.{name}": _DAY for name in ("since", "last_purchase_on", "medium_event_on", "high_event_on")},
    columns={"standing.since": "level_since"},
    parts={"standing": Standing},
)
_BEGUN: Final = ("status", "settings", "announcement", "model_version", "parameters", "started_at")
_ADVANCED: Final = ("status", "cursor", "low", "medium", "high", "events", "histogram", "finished_at")
_SELECT_RUN: Final = f"SELECT {_RUNS.columns()} FROM churn_runs"
_UNFINISHED: Final = "status IN ('queued', 'running')"
_SCHEDULED_AGAIN: Final = (
    "INSERT INTO churn_settings (account_id, settings, next_run_at, updated_at) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (account_id) DO UPDATE SET settings = excluded.settings, updated_at = excluded.updated_at,"
    f" next_run_at = CASE WHEN excluded.next_run_at = {NEVER} THEN {NEVER}"
    f" WHEN churn_settings.next_run_at = {NEVER} THEN 0 ELSE churn_settings.next_run_at END"
)
_DEFAULTS: Final = (
    "INSERT INTO churn_settings (account_id, settings, next_run_at, updated_at) VALUES (?, '{}', 0, ?)"
    " ON CONFLICT (account_id) DO NOTHING"
)
_PUT_MODEL: Final = f"{_MODELS.insert} ON CONFLICT (account_id, version) DO UPDATE SET " + ", ".join(
    f"{name} = excluded.{name}"
    for name in ("parameters", "gap_days", "fitted_customers", "log_likelihood", "created_at")
)
_LOCK_RUN: Final = DialectSql(
    lambda dialect: f"{_SELECT_RUN} WHERE id = ? AND status = ? {dialect.for_update} {dialect.skip_locked}"
)


class ChurnTables:
    """What is stored of churn, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # -- settings and the schedule -----------------------------------------------------------------------------------

    def settings(self, account_id: str) -> ChurnSettings:
        """The settings of an account; the default ones until it has set others."""
        rows = self._connection.execute("SELECT settings FROM churn_settings WHERE account_id = ?", (account_id,))
        found: ChurnSettings = _SETTINGS.decode(rows[0][0]) if rows else ChurnSettings()
        return found

    def put_settings(self, account_id: str, settings: ChurnSettings, now: UnixMs) -> None:
        """Store settings. Nothing is scheduled while they are not enabled; a run is due at once when they become enabled."""
        next_run_at = 0 if settings.enabled else NEVER
        self._connection.execute(_SCHEDULED_AGAIN, (account_id, _SETTINGS.encode(settings), next_run_at, now))

    def due_accounts(self, now: UnixMs, limit: int) -> list[str]:
        """Accounts for which a scheduled run is due: also those that have no row of settings yet."""
        rows = self._connection.execute(
            "SELECT p.account_id FROM programs p LEFT JOIN churn_settings s ON s.account_id = p.account_id"
            " WHERE COALESCE(s.next_run_at, 0) <= ? ORDER BY p.account_id LIMIT ?",
            (now, limit),
        )
        return [account_id for (account_id,) in rows]

    def schedule(self, account_id: str, now: UnixMs, next_run_at: UnixMs) -> bool:
        """Set the time of the run after the one that is due; False when none is due."""
        self._connection.execute(_DEFAULTS, (account_id, now))
        changed = self._connection.change(
            "UPDATE churn_settings SET next_run_at = ? WHERE account_id = ? AND next_run_at <= ?",
            (next_run_at, account_id, now),
        )
        return changed == 1

    # -- models ------------------------------------------------------------------------------------------------------

    def put_model(self, model: ChurnModel) -> None:
        """Store a model, in place of the one of the same day."""
        self._connection.execute(_PUT_MODEL, _MODELS.values(model))

    def model(self, account_id: str, as_of: date) -> ChurnModel | None:
        """The newest model that was made as of a day or before it."""
        rows = self._connection.execute(
            f"SELECT {_MODELS.columns()} FROM churn_models WHERE account_id = ? AND version <= ?"
            " ORDER BY version DESC LIMIT 1",
            (account_id, as_of.isoformat()),
        )
        return _MODELS.record(rows[0]) if rows else None

    # -- runs --------------------------------------------------------------------------------------------------------

    def insert_run(self, run: ChurnRun) -> None:
        """Store a new run."""
        self._connection.execute(_RUNS.insert, _RUNS.values(run))

    def run(self, account_id: str, run_id: str) -> ChurnRun | None:
        """One run."""
        rows = self._connection.execute(f"{_SELECT_RUN} WHERE id = ? AND account_id = ?", (run_id, account_id))
        return _RUNS.record(rows[0]) if rows else None

    def unfinished_runs(self, account_id: str) -> int:
        """How many runs of an account are queued or running."""
        [(count,)] = self._connection.execute(
            f"SELECT COUNT(*) FROM churn_runs WHERE account_id = ? AND {_UNFINISHED}", (account_id,)
        )
        return int(count)

    def runnable(self, limit: int) -> list[ChurnRun]:
        """The oldest unfinished run of each account, oldest first."""
        oldest = f"SELECT MIN(id) FROM churn_runs WHERE {_UNFINISHED} GROUP BY account_id"
        among = self._connection.dialect.among(oldest)
        return _RUNS.records(self._connection.execute(f"{_SELECT_RUN} WHERE id {among} ORDER BY id LIMIT ?", (limit,)))

    def claim(self, run_id: str, now: UnixMs, until: UnixMs) -> bool:
        """Keep other processes from preparing a queued run, until an instant. False when another process has claimed it."""
        changed = self._connection.change(
            "UPDATE churn_runs SET claimed_until = ?"
            " WHERE id = ? AND status = 'queued' AND COALESCE(claimed_until, 0) <= ?",
            (until, run_id, now),
        )
        return changed == 1

    def lock_run(self, run_id: str, status: RunStatus) -> ChurnRun | None:
        """A run, locked; None when it has another status, or when another transaction has locked it."""
        rows = self._connection.execute(_LOCK_RUN[self._connection.dialect], (run_id, status))
        return _RUNS.record(rows[0]) if rows else None

    def begin(self, run: ChurnRun) -> None:
        """Store what was decided for a queued run, which is running from then on."""
        self._connection.execute(
            f"UPDATE churn_runs SET {_RUNS.assignments(*_BEGUN)} WHERE id = ? AND status = 'queued'",
            (*_RUNS.values_of(run, *_BEGUN), run.id),
        )

    def advance(self, run: ChurnRun) -> None:
        """Store cursor, counts and status of a running run."""
        self._connection.execute(
            f"UPDATE churn_runs SET {_RUNS.assignments(*_ADVANCED)} WHERE id = ? AND status = 'running'",
            (*_RUNS.values_of(run, *_ADVANCED), run.id),
        )

    def fail(self, run_id: str, now: UnixMs) -> None:
        """End an unfinished run that cannot continue."""
        self._connection.execute(
            f"UPDATE churn_runs SET status = 'failed', finished_at = ? WHERE id = ? AND {_UNFINISHED}", (now, run_id)
        )

    def last_run(self, account_id: str) -> ChurnRun | None:
        """The last run that has set levels, if only of some customers."""
        rows = self._connection.execute(
            f"{_SELECT_RUN} WHERE account_id = ? AND status IN ('done', 'failed') AND announcement <> 'report'"
            " AND low + medium + high > 0 ORDER BY id DESC LIMIT 1",
            (account_id,),
        )
        return _RUNS.record(rows[0]) if rows else None

    def has_scheduled_run(self, account_id: str) -> bool:
        """Whether a scheduled run has set the levels of all customers."""
        rows = self._connection.execute(
            "SELECT 1 FROM churn_runs WHERE account_id = ? AND status = 'done' AND requested = 0"
            " AND announcement <> 'report' AND low + medium + high > 0 LIMIT 1",
            (account_id,),
        )
        return bool(rows)

    def was_imported(self, account_id: str, since: UnixMs) -> bool:
        """Whether an import of purchases worked since an instant. Jobs are kept for a few days, so there are few."""
        rows = self._connection.execute(
            "SELECT params FROM jobs WHERE account_id = ? AND kind = 'import_transactions' AND updated_at >= ?",
            (account_id, since),
        )
        return any(not msgspec.json.decode(params).get("dry_run") for (params,) in rows)

    def remove_old(self, account_id: str, before: UnixMs) -> None:
        """Remove models that were made, and runs that ended, before an instant."""
        self._connection.execute(
            "DELETE FROM churn_models WHERE account_id = ? AND created_at < ?", (account_id, before)
        )
        self._connection.execute(
            "DELETE FROM churn_runs WHERE account_id = ? AND finished_at < ?", (account_id, before)
        )

    # -- customers and their scores ----------------------------------------------------------------------------------

    def next_customers(self, account_id: str, after_id: str, limit: int) -> list[str]:
        """The ids of the next active customers that are not blocked, in their order, without a lock."""
        rows = self._connection.execute(
            "SELECT id FROM customers WHERE account_id = ? AND id > ? AND status = 'active'"
            " AND earning_blocked = 0 AND redeeming_blocked = 0 ORDER BY id LIMIT ?",
            (account_id, after_id, limit),
        )
        return [id_ for (id_,) in rows]

    def purchase_days(self, customer_ids: Collection[str], as_of: date) -> dict[str, PurchaseDays]:
        """The days of these customers with net purchases; without customers that have none."""
        days: dict[str, list[date]] = defaultdict(list)
        spent: dict[str, int] = defaultdict(int)
        for chunk in padded_chunks(list(customer_ids)):
            rows = self._connection.execute(
                "SELECT customer_id, day, spend FROM customer_days"
                f" WHERE customer_id IN ({marks(len(chunk))}) AND day <= ? AND purchases > 0",
                (*chunk, number_of(as_of)),
            )
            for customer_id, day, spend in rows:
                days[customer_id].append(date_of(day))
                spent[customer_id] += spend
        return {customer_id: PurchaseDays(bought_on, spent[customer_id]) for customer_id, bought_on in days.items()}

    def standings(self, customer_ids: Collection[str]) -> dict[str, Standing]:
        """The stored levels of these customers, of which there is at least one."""
        padded = padded_list(customer_ids)
        rows = self._connection.execute(
            f"SELECT {_SCORES.columns()} FROM churn_scores WHERE customer_id IN ({marks(len(padded))})", padded
        )
        return {each.customer_id: each.standing for each in _SCORES.records(rows)}

    def replace_scores(
        self, account_id: str, after_id: str, last_id: str | None, scores: Sequence[CustomerScore]
    ) -> None:
        """Put scores in place of all that the account has from behind one customer to another one, or to the last."""
        clause, params = where(
            ("account_id = ?", account_id), ("customer_id > ?", after_id), ("customer_id <= ?", last_id)
        )
        self._connection.execute(f"DELETE FROM churn_scores {clause}", params)
        self._connection.execute_many(_SCORES.insert, [_SCORES.values(each) for each in scores])

    def list_scores(
        self, account_id: str, level: Level | None, customer_id: str | None, after_id: str, limit: int
    ) -> list[ListedScore]:
        """The next scores of active customers behind a customer, in the order of the customers' ids."""
        clause, params = where(
            ("s.account_id = ?", account_id),
            ("s.level = ?", level),
            ("s.customer_id = ?", customer_id),
            ("s.customer_id > ?", after_id),
            "c.status = 'active'",
        )
        rows = self._connection.execute(
            f"SELECT {_SCORES.columns('s')}, c.external_id FROM churn_scores s JOIN customers c ON c.id = s.customer_id"
            f" {clause} ORDER BY s.customer_id LIMIT ?",
            (*params, limit),
        )
        return [ListedScore(score, external_id) for score, (external_id,) in map(_SCORES.split, rows)]
