"""What the tests of churn share."""

import pytest

from loyalpro.loyalty.churn.features import History
from scripts import cdnow


@pytest.fixture(scope="session")
def published() -> tuple[History, ...]:
    """The 2,357 customers that the models were published with."""
    return tuple(cdnow.published_histories().values())
