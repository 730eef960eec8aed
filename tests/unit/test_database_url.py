"""URLs of databases: what is accepted, and that no refusal repeats a password."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from loyalpro.kernel.clock import SystemClock
from loyalpro.kernel.errors import ConfigurationError, LoyalProError
from loyalpro.settings import Settings, load
from loyalpro.storage.database_url import require_database_url
from loyalpro.storage.open import migrate_database

KEY = "a key for tests of enough characters"
WORD = "hunter2zebra"


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///loyalpro.db",
        "sqlite:////var/lib/loyalpro/loyalpro.db",
        "sqlite:///with space/100%.db",
        "postgresql://db/loyalpro",
        "postgres://loyalpro:secret@db.internal:5432/loyalpro",
        "postgresql://loyalpro:a%40b%2Fc%25@[::1]:5432/loyalpro?sslmode=require",
        "postgresql://loyalpro:a:b#c?d&e+f@db/loyalpro?options=-c%20x%3D1",
        "postgresql://a,b:5433/loyalpro?target_session_attrs=read-write",
        "postgresql:///loyalpro?host=/var/run/postgresql",
        "postgresql://%2Fvar%2Frun%2Fpostgresql/loyalpro",
        "postgresql://",
    ],
)
def test_a_url_of_a_database_is_accepted(url: str) -> None:
    require_database_url(url)
    assert Settings(database_url=f" {url}\n", secret_key=KEY).url == url


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:{WORD}%@db/name",
        f"postgresql://u:%zz{WORD}@db/name",
        f"postgresql://u:x@{WORD}@db/name",
        f"postgresql://u:x/{WORD}@db/name",
        f"postgresql://u:5/{WORD}@db/name",
        f"postgresql://u:x@y?{WORD}@db/name",
        f"postgresql://u:{WORD}",
        f"postgresql://u:{WORD}/db",
        f"postgresql://u:x@db/name?{WORD}",
        f"postgresql://u:x@db/name?{WORD}=1",
        f"postgresql://u:%00{WORD}@db/name",
        f"postgresql://u:%ff{WORD}@db/name",
        f"postgresql+psycopg://u:{WORD}@db/name",
        f"host=db password={WORD}",
        f"'postgresql://u:{WORD}@db/name'",
        WORD,
    ],
)
def test_a_refused_url_is_not_repeated(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("LOYALPRO_DATABASE_URL", url)
    monkeypatch.setenv("LOYALPRO_SECRET_KEY", KEY)
    with pytest.raises(ConfigurationError, match="LOYALPRO_DATABASE_URL: ") as caught:
        load()
    assert WORD not in str(caught.value)


_SPECIAL = st.sampled_from(
    [*"%@/:?#[]&=+ ,;\\'\"!$()*<>^`{|}~", "%2", "%00", "%25", "%40", "é", "\n", "://", "@127.0.0.1:1/"]
)
_PASSWORDS = st.lists(st.one_of(_SPECIAL, st.just(WORD)), min_size=1, max_size=6).map("".join)


@given(password=_PASSWORDS, user=st.sampled_from(["u", "", WORD]))
def test_no_error_has_a_part_of_a_password(password: str, user: str) -> None:
    """Whatever the password does to the URL, neither the settings nor the driver repeat it."""
    url = f"postgresql://{user}:{password}@127.0.0.1:1/db"
    try:
        migrate_database(Settings(database_url=url, secret_key=KEY).url, SystemClock())
    except ValidationError as error:
        shown = " ".join(each["msg"] for each in error.errors(include_input=False, include_url=False))
    except LoyalProError as error:
        shown = error.detail
    assert WORD not in shown
    assert not re.search(r"(?i)traceback|conninfo|uri", shown)
