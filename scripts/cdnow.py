"""The purchases of CDNOW, a music shop: what 2,357 customers of early 1997 bought until the middle of 1998.

lifetimes carries them; `scripts/oracle.py` installs it. A line is the number of the customer in all of CDNOW, its number in
the sample, the day, how many CDs, and dollars.
"""

import csv
from collections import defaultdict
from collections.abc import Mapping
from datetime import date
from typing import Final

from loyalpro.loyalty.churn.features import Features, History, features
from scripts import oracle

OBSERVED_UNTIL: Final = date(1997, 9, 30)
"""The last day that the published models know."""
FOLLOWED_UNTIL: Final = date(1998, 6, 30)
"""The last day of the data."""


def purchase_days() -> Mapping[str, list[date]]:
    """The days of the purchases of each customer, by its number in the sample. A day stands there once for each order."""
    days = defaultdict(list)
    for line in (oracle.datasets() / "CDNOW_sample.txt").read_text("ascii").splitlines():
        _, customer, day, _, _ = line.split()
        days[customer].append(date.fromisoformat(day))
    return days


def observed() -> Mapping[str, Features]:
    """The features of each customer as of the last observed day."""
    found = {customer: features(days, OBSERVED_UNTIL) for customer, days in purchase_days().items()}
    return {customer: each for customer, each in found.items() if each is not None}


def published_histories() -> Mapping[str, History]:
    """The histories that the models were published with, by customer: in weeks with two decimals."""
    with (oracle.datasets() / "cdnow_customers_summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {row["ID"]: History(int(row["frequency"]), float(row["recency"]), float(row["T"])) for row in rows}
