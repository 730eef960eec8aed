"""The days of customers. Satisfies `loyalty.ports.DayStore`."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from loyalpro.loyalty.entities import DayTotals
from loyalpro.loyalty.expiry import Day
from loyalpro.storage.connection import Connection, Row
from loyalpro.storage.dialect import DialectSql
from loyalpro.storage.rows import RowMapper
from loyalpro.storage.sql import flat, marks, padded_chunks

_DAYS: Final = RowMapper(DayTotals, "customer_days")
_COUNTED: Final = ("purchases", "spend", "points_qualifying", "refunds", "refunded", "redemptions", "points_redeemed")
_ADD: Final = f"{_DAYS.insert} ON CONFLICT (customer_id, day) DO UPDATE SET " + ", ".join(
    f"{name} = customer_days.{name} + excluded.{name}" for name in _COUNTED
)
_SUMS_OF_DAYS: Final = ", ".join(f"CAST(SUM(d.{name}) AS BIGINT)" for name in _COUNTED)
# PostgreSQL goes from the windows to the days of each: otherwise it may read all days of all customers in their order, while
# its statistics say that there are few.
_SUMS_IN: Final = DialectSql(
    lambda dialect: (
        f"SELECT w.column1, w.column3, '', sums.* FROM (VALUES {{windows}}) AS w CROSS JOIN LATERAL"
        f" (SELECT {_SUMS_OF_DAYS} FROM customer_days d"
        " WHERE d.customer_id = w.column1 AND d.day BETWEEN w.column2 AND w.column3 HAVING COUNT(*) > 0) AS sums"
        if dialect.is_postgres
        else f"SELECT d.customer_id, MAX(w.column3), '', {_SUMS_OF_DAYS}"
        " FROM (VALUES {windows}) AS w CROSS JOIN customer_days d"
        " WHERE d.customer_id = w.column1 AND d.day BETWEEN w.column2 AND w.column3 GROUP BY d.customer_id"
    )
)
_SUMS: Final = ", ".join(f"CAST(SUM({name}) AS BIGINT)" for name in _COUNTED)


class DayTables:
    """Days, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, days: Sequence[DayTotals]) -> None:
        """Add to stored days, and store new ones. Each day of a customer occurs once."""
        self._connection.execute_many(_ADD, [_DAYS.values(each) for each in days])

    def totals(self, customer_ids: Collection[str], first: Day, last: Day) -> dict[str, DayTotals]:
        """The sum of each of these customers' days from `first` to `last`; without the customers that have none."""
        found: dict[str, DayTotals] = {}
        for chunk in padded_chunks(list(customer_ids)):
            rows = self._connection.execute(
                f"SELECT customer_id, {_SUMS} FROM customer_days WHERE customer_id IN ({marks(len(chunk))})"
                " AND day BETWEEN ? AND ? GROUP BY customer_id",
                (*chunk, first, last),
            )
            found |= {row[0]: DayTotals(row[0], last, "", *row[1:]) for row in rows}
        return found

    def sums_in(self, windows: Mapping[str, tuple[Day, Day]]) -> list[DayTotals]:
        """The sums of the days from the first to the last one of each customer's window, with the last day.

        Padding has no customer, because a sum would count the days of a repeated one twice.
        """
        sql = _SUMS_IN[self._connection.dialect]
        rows: list[Row] = []
        for chunk in padded_chunks(list(windows.items())):
            keys: list[tuple[object, ...]] = [(id_, *window) for id_, window in dict(chunk).items()]
            keys += [(None, None, None)] * (len(chunk) - len(keys))
            rows += self._connection.execute(sql.format(windows=marks(len(keys), "(?, ?, ?)")), flat(keys))
        return _DAYS.records(rows)

    def list_days(self, customer_id: str, first: Day, last: Day) -> list[DayTotals]:
        """A customer's days from `first` to `last`, in their order."""
        return _DAYS.records(
            self._connection.execute(
                f"SELECT {_DAYS.columns()} FROM customer_days WHERE customer_id = ? AND day BETWEEN ? AND ? ORDER BY day",
                (customer_id, first, last),
            )
        )
