"""The databases that tests are given: each is new, and gone after its module."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.databases import Databases
from support.history import connect, count


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Databases]:
    databases = Databases(tmp_path)
    yield databases
    databases.stop()


def test_all_are_dropped_but_the_templates(made: Databases) -> None:
    stores = ("sqlite", "postgres")
    urls = [made.fresh(store) for store in stores for _ in range(2)]
    made.drop(urls[1])
    made.drop(urls[3])
    assert [count(url, "accounts") for url in (urls[0], urls[2])] == [0, 0]
    made.drop_all()
    assert not Path(urls[0].removeprefix("sqlite:///")).exists()
    with pytest.raises(Exception, match="does not exist"):
        connect(urls[2])
    assert [count(made.fresh(store), "accounts") for store in stores] == [0, 0]
