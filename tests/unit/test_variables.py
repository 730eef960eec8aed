"""Finding variables that nothing reads, and the names that are probably meant."""

from pathlib import Path

import pytest

from loyalpro.kernel.errors import ConfigurationError
from loyalpro.settings import Settings, load, unknown_settings
from loyalpro.variables import CLIENT_VARIABLES, misspelled_client_variables, unknown_variables

KNOWN = [f"LOYALPRO_{name.upper()}" for name in Settings.model_fields]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("LOYALPRO_DATABSE_URL", "LOYALPRO_DATABASE_URL"),
        ("LOYALPRO_DB_URL", "LOYALPRO_DATABASE_URL"),
        ("LOYALPRO_SECRETKEY", "LOYALPRO_SECRET_KEY"),
        ("LOYALPRO_APIKEY", "LOYALPRO_API_KEY"),
        ("LOYALPRO_SERVR", "LOYALPRO_SERVER"),
        ("LOYALPRO_TIMEOUT", "LOYALPRO_DELIVERY_TIMEOUT"),
        ("loyalpro_prt", "LOYALPRO_PORT"),
        ("LOYALPO_PORT", "LOYALPRO_PORT"),
        ("LOYALPROPORT", "LOYALPRO_PORT"),
        ("LOYAL_PRO_DATABASE_URL", "LOYALPRO_DATABASE_URL"),
        ("LOYALPRO_", None),
        ("LOYALPRO_QWXZ", None),
    ],
)
def test_a_variable_that_nothing_reads_has_the_nearest_name(name: str, nearest: str | None) -> None:
    [found] = unknown_variables([name, "PATH"], KNOWN)
    assert (found.name, found.nearest) == (name, nearest)
    assert name in str(found)
    assert nearest is None or f"Is {nearest} meant?" in str(found)


@pytest.mark.parametrize(
    "name",
    [
        *KNOWN,
        *CLIENT_VARIABLES,
        "loyalpro_port",
        "LOYALPRO_WEBHOOK_SECRET",
        "LOYALPRO_TEST_POSTGRES_URL",
        "LOYALTY_HOST",
        "PORT",
    ],
)
def test_a_variable_that_something_reads_and_one_of_another_program_are_not_reported(name: str) -> None:
    assert unknown_variables([name], KNOWN) == []


@pytest.mark.parametrize("name", [*KNOWN, *CLIENT_VARIABLES, "LOYALPRO_WEBHOOK_SECRET"])
def test_a_command_that_talks_to_a_server_does_not_report_settings(name: str) -> None:
    assert misspelled_client_variables([name]) == []


@pytest.mark.parametrize("name", ["LOYALPRO_APIKEY", "LOYALPRO_SERVR", "loyalpro_server", "LOYALPO_API_KEY"])
def test_a_command_that_talks_to_a_server_reports_its_own_variables(name: str) -> None:
    assert [each.name for each in misspelled_client_variables([name])] == [name]


def test_settings_are_loaded_with_a_misspelled_variable_unless_they_are_strict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOYALPRO_DATABSE_URL", "postgresql://ada:hidden@db/name")
    assert load().sqlite_path == Path("loyalpro-data/loyalpro.db")
    assert [each.nearest for each in unknown_settings()] == ["LOYALPRO_DATABASE_URL"]
    for value in ("1", "true"):
        monkeypatch.setenv("LOYALPRO_STRICT", value)
        with pytest.raises(
            ConfigurationError, match=r"LOYALPRO_DATABSE_URL .*Is LOYALPRO_DATABASE_URL meant"
        ) as caught:
            load()
        assert "hidden" not in caught.value.detail
    monkeypatch.setenv("LOYALPRO_STRICT", "0")
    load()


def test_an_error_of_the_settings_names_misspelled_variables_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOYALPRO_DATABASE_URL", "postgresql://db/name")
    monkeypatch.setenv("LOYALPRO_SECRT_KEY", "a hidden key of enough characters")
    with pytest.raises(ConfigurationError, match=r"is required on PostgreSQL.*Is LOYALPRO_SECRET_KEY meant") as caught:
        load()
    assert "hidden" not in caught.value.detail
