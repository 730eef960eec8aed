"""The settings, read from the environment once at the start. docs/reference/environment.md describes each variable."""

import ipaddress
import math
import os
import re
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from loyalpro.delivery.schedule import WINDOW_S
from loyalpro.kernel.errors import ConfigurationError
from loyalpro.storage.database_url import POSTGRES, SQLITE, require_database_url
from loyalpro.storage.maintenance_jobs import RETENTION_DAYS
from loyalpro.variables import PREFIX, UnknownVariable, unknown_variables

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_HOST = re.compile(r"[^:\[\]\s]+|\[[0-9a-fA-F:.]+\]")
_API_KEY = re.compile(r"lp_[!-~]{13,}")
_HIGHEST_PORT = 65_535
_PORTS: Final = {"http": "80", "https": "443"}
_ORIGIN = re.compile(r"(?P<host>[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::(?P<port>[1-9][0-9]{0,4}))?")
_WITH_PORT = re.compile(r"(?:[0-9.]+|\[[^\]]+\]):[0-9]{1,5}")
_NO_NETWORK: Final = (
    "takes networks such as 10.0.0.0/8 or ::1/128, separated by commas, with no bits of the address behind the prefix"
)
_NO_WAITS: Final = "takes seconds, each at least 0, separated by commas, with a sum of at most 72 hours (259200)"
_QUOTES: Final = ('"', "'")
_REASONS: Final = {
    "int_parsing": "takes a whole number",
    "int_from_float": "takes a whole number",
    "float_parsing": "takes a number",
    "finite_number": "takes a number",
    "bool_parsing": "takes 1 or 0",
    "greater_than": "takes more than {gt:g}",
    "greater_than_equal": "takes at least {ge:g}",
    "less_than_equal": "takes at most {le:g}",
}
"""What a variable takes, by the kind of error of pydantic."""


class Settings(BaseSettings):
    """The values of the `LOYALPRO_*` variables, validated."""

    model_config = SettingsConfigDict(env_prefix="LOYALPRO_", extra="ignore", frozen=True)

    data_dir: Path = Field(
        default=Path("loyalpro-data"),
        description="The folder of the SQLite database and its secret key. LoyalPro creates it when it is missing, inside a "
        "folder that exists. A path that starts with `~` is in your home folder.",
        examples=["/var/lib/loyalpro"],
    )
    database_url: SecretStr = Field(
        default=SecretStr(""),
        description="`sqlite:///relative/path`, `sqlite:////absolute/path` or `postgresql://user@host/name`. When it is "
        "empty: SQLite, in the file `loyalpro.db` of the data folder.",
        examples=["postgresql://loyalpro:secret@db.internal/loyalpro"],
    )
    host: str = Field(
        default="127.0.0.1",
        description="The address to listen on. LoyalPro serves plain HTTP: put a proxy that serves HTTPS in front of it "
        "before you listen on an address that other machines can reach.",
        examples=["10.0.0.5"],
    )
    port: int = Field(default=8700, ge=0, le=65535, description="The port to listen on; 0 means any free port.")
    secret_key: SecretStr = Field(
        default=SecretStr(""),
        description="The key that encrypts the signing secrets in the database. At least 16 characters. To rotate it, set "
        "several keys, separated by commas and newest first: the first encrypts, and each of them decrypts. Required on "
        "PostgreSQL, with the same value on every host. On SQLite, when it is empty, LoyalPro generates a key once and "
        "stores it in the file `secret.key` beside the database. While that file exists, its key decrypts as well, in "
        "addition to the keys of this variable.",
        examples=["new-key-of-32-characters-or-more,old-key-of-32-characters-or-more"],
    )
    bootstrap_api_key: SecretStr | None = Field(
        default=None,
        description="The API key of the first account, which `loyalpro serve` creates when the database has no account. It "
        "starts with `lp_` and has at least 16 characters. It has to be random, because the database stores only a fast hash "
        "of it. Generate one with `echo lp_$(openssl rand -hex 24)`. It has no effect once the account has a key.",
        examples=["lp_0123456789abcdef0123456789abcdef0123456789abcdef"],
    )
    bootstrap_email: str | None = Field(
        default=None,
        description="The e-mail address of the owner of the first account, while the account has no owner. It has an effect "
        "only together with `LOYALPRO_BOOTSTRAP_PASSWORD`. Without both, `loyalpro serve` prints a code for the "
        "first owner.",
        examples=["owner@example.com"],
    )
    bootstrap_password: SecretStr | None = Field(
        default=None,
        description="The password of the owner of the first account. The database stores only its Argon2 hash. Unlike "
        "passwords that are set in the dashboard, it may be short: choose a long one.",
    )
    public_url: str = Field(
        default="",
        description="The address under which people open the dashboard: a scheme, a host "
        "and a port if it is needed, and nothing else. The dashboard answers requests for this host and for those of the "
        "machine itself, such as `localhost`. Links to pass on begin with it.",
        examples=["https://loyalty.example.com"],
    )
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode] = Field(
        default=(),
        description="Networks of the proxies in front of the server, separated by commas. A request from one of them came from "
        "the address that its `X-Forwarded-For` tells; the audit log has it.",
        examples=["10.0.0.0/8"],
    )
    egress_allow: Annotated[tuple[Network, ...], NoDecode] = Field(
        default=(),
        description="Networks that deliveries may reach although they are not public, separated by commas. `localhost` and "
        "other names of one label are accepted when they resolve to an address in these networks. For development and "
        "tests.",
        examples=["127.0.0.0/8,::1/128"],
    )
    egress_ca_file: Path | None = Field(
        default=None,
        description="A PEM file with certificates that deliveries trust in addition to the authorities of Mozilla.",
        examples=["/etc/loyalpro/internal-ca.pem"],
    )
    dns_servers: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="The DNS servers that look up the host names of endpoints, separated by commas: addresses, each with a "
        "port if it is not 53. When it is empty: those of `/etc/resolv.conf`. `/etc/hosts` is read in any case.",
        examples=["10.0.0.2,[2001:db8::53]:5353"],
    )
    delivery_timeout: float = Field(
        default=30.0, gt=0, le=30, description="The maximum duration of one delivery attempt, in seconds."
    )
    retry_schedule: Annotated[tuple[float, ...] | None, NoDecode] = Field(
        default=None,
        description="The seconds between the attempts of a delivery, separated by commas, without jitter; at most 72 hours "
        "in total. When it is empty: exponential backoff over 72 hours, as described in [webhooks.md](webhooks.md#retries). "
        "For tests and special needs.",
        examples=["5,60,600"],
    )
    sweep_interval: float = Field(
        default=60.0,
        gt=0,
        allow_inf_nan=False,
        description="The seconds between runs of the periodic jobs: removing old rows, canceling the deliveries of deleted "
        "endpoints, creating partitions. The job that ends deliveries whose 72 hours ran out while they waited runs every 5 "
        "seconds, or more often if this value is smaller.",
    )
    retention_days: int = Field(
        default=RETENTION_DAYS,
        ge=30,
        description="The number of days for which events, finished deliveries and their attempts are kept.",
    )
    max_endpoints: int = Field(
        default=1_000,
        ge=1,
        description="The number of webhook endpoints that an account can have. Each event has a delivery to every endpoint "
        "that is subscribed to it, written in the transaction of its purchase.",
    )
    min_free_mb: int = Field(
        default=256,
        ge=0,
        description="The number of megabytes that have to be free on the disk of a SQLite database. With less, the API refuses "
        "new data, while deliveries and reads continue.",
    )
    worker_listen: str = Field(
        default="",
        description="The address at which `loyalpro worker` serves `/healthz`, `/readyz` and `/metrics`, as `host:port`. When "
        "it is empty, the worker does not listen. These paths need no API key, so let only your own machines reach them.",
        examples=["127.0.0.1:9090"],
    )
    log_format: str = Field(
        default="auto",
        pattern="^(auto|json|console)$",
        description="The format of the log lines on stderr: `json`, `console`, or `auto`, which means `console` in a terminal "
        "and `json` otherwise.",
    )
    strict: bool = Field(
        default=False,
        description="1: a variable that starts with `LOYALPRO_` and is not on this page, or whose name is almost one of them, "
        "refuses the start. 0: the start only warns of it. On your own hosts, set it to 1.",
    )

    @field_validator("dns_servers", mode="before")
    @classmethod
    def _parts(cls, value: Any) -> Any:
        return tuple(_listed(value)) if isinstance(value, str) else value

    @field_validator("egress_allow", "trusted_proxies", mode="before")
    @classmethod
    def _networks(cls, value: Any) -> Any:
        return tuple(map(_network, _listed(value))) if isinstance(value, str) else value

    @field_validator("dns_servers")
    @classmethod
    def _are_addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for server in value:
            address, _, port = server.rpartition(":") if _WITH_PORT.fullmatch(server) else (server, "", "53")
            try:
                ipaddress.ip_address(address[1:-1] if address[:1] + address[-1:] == "[]" else address)
            except ValueError:
                raise ValueError("takes addresses, with a port if needed: 10.0.0.2,[2001:db8::53]:5353") from None
            if not 0 < int(port) <= _HIGHEST_PORT:
                raise ValueError("takes ports from 1 to 65535")
        return value

    @field_validator("retry_schedule", mode="before")
    @classmethod
    def _retry_waits(cls, value: Any) -> Any:
        return tuple(map(_wait, _listed(value))) or None if isinstance(value, str) else value

    @field_validator("data_dir", "egress_ca_file")
    @classmethod
    def _in_the_home_folder(cls, value: Path | None) -> Path | None:
        try:
            return None if value is None else value.expanduser()
        except RuntimeError:
            raise ValueError("starts with ~, and there is no such home folder") from None

    @field_validator("database_url")
    @classmethod
    def _is_a_database_url(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value():
            require_database_url(value.get_secret_value())
        return value

    @field_validator("retry_schedule")
    @classmethod
    def _waits_fit_the_window(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and not (all(0 <= wait < math.inf for wait in value) and sum(value) <= WINDOW_S):
            raise ValueError(_NO_WAITS)
        return value

    @field_validator("bootstrap_api_key")
    @classmethod
    def _is_an_api_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _API_KEY.fullmatch(value.get_secret_value()):
            raise ValueError(
                "takes a key that starts with lp_ and has at least 16 characters, without spaces or accents"
            )
        return value

    @field_validator("public_url")
    @classmethod
    def _is_an_origin(cls, value: str) -> str:
        """The URL as browsers write an origin: in lower case, and without the port of the scheme."""
        if not value:
            return value
        scheme, _, rest = value.lower().removesuffix("/").partition("://")
        found = _ORIGIN.fullmatch(rest)
        if scheme not in _PORTS or found is None or int(found["port"] or 1) > _HIGHEST_PORT:
            raise ValueError("takes the address of the dashboard without a path: https://loyalty.example.com")
        port = found["port"]
        return f"{scheme}://{found['host']}" + ("" if port in (None, _PORTS[scheme]) else f":{port}")

    @field_validator("worker_listen")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if value and not (_HOST.fullmatch(host) and port.isascii() and port.isdigit() and int(port) <= _HIGHEST_PORT):
            raise ValueError("takes host:port, with an IPv6 address in brackets: [::1]:9090")
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _is_clean(cls, value: Any, info: ValidationInfo) -> Any:
        """The value without white space around it, or the default for an empty one. It is checked before the other rules."""
        if not isinstance(value, str):
            return value
        _require_plain(value)
        value = value.strip("\r\n") if info.field_name == "bootstrap_password" else value.strip()
        return value or cls.model_fields[str(info.field_name)].get_default()

    @model_validator(mode="after")
    def _postgres_needs_a_key(self) -> Self:
        if self.is_postgres and not self.secret_keys:
            raise ValueError("LOYALPRO_SECRET_KEY is required on PostgreSQL: every host needs the same one")
        return self

    @property
    def url(self) -> str:
        """The URL of the database. It may contain a password, so it must not be logged."""
        return self.database_url.get_secret_value() or f"{SQLITE}{self.data_dir / 'loyalpro.db'}"

    @property
    def is_postgres(self) -> bool:
        """Whether the database is PostgreSQL."""
        return self.url.startswith(POSTGRES)

    @property
    def sqlite_path(self) -> Path:
        """The path of the SQLite file."""
        return Path(self.url.removeprefix(SQLITE))

    @property
    def worker_address(self) -> tuple[str, int] | None:
        """The host and port on which a worker listens; None when it does not listen."""
        host, _, port = self.worker_listen.rpartition(":")
        return (host.strip("[]"), int(port)) if port else None

    @property
    def base_url(self) -> str:
        """What links to the dashboard begin with: the public URL, or else the address on this machine."""
        return self.public_url or f"http://127.0.0.1:{self.port}"

    @property
    def secret_keys(self) -> list[str]:
        """The keys that encrypt secrets in the database, newest first."""
        return [key.strip() for key in self.secret_key.get_secret_value().split(",") if key.strip()]


def load() -> Settings:
    """The settings of the environment. `ConfigurationError` names a wrong variable and the reason.

    It does not repeat the value, because some values are secret. It adds the variables that are probably misspelled.
    """
    unknown = [str(each) for each in unknown_settings()]
    try:
        settings = Settings()
    except ValidationError as error:
        reasons = [_reason(each) for each in error.errors(include_input=False, include_url=False)]
        raise ConfigurationError(" ".join([*(f"{reason}." for reason in reasons), *unknown])) from None
    if settings.strict and unknown:
        raise ConfigurationError(f"{' '.join(unknown)} LOYALPRO_STRICT=1 refuses such variables.")
    return settings


def unknown_settings() -> list[UnknownVariable]:
    """The variables of the environment that look like those of LoyalPro, and that nothing reads."""
    return unknown_variables(os.environ, [f"{PREFIX}{name}".upper() for name in Settings.model_fields])


def _reason(error: Any) -> str:
    """The variable and what it takes."""
    name = f"{PREFIX}{error['loc'][0]}: ".upper() if error["loc"] else ""
    if error["type"] == "string_pattern_mismatch":
        return f"{name}takes one of {', '.join(re.findall('[a-z]+', error['ctx']['pattern']))}"
    if error["type"] in _REASONS:
        return name + _REASONS[error["type"]].format(**error.get("ctx", {}))
    return name + str(error["msg"]).removeprefix("Value error, ")


def _require_plain(value: str) -> None:
    """`ValueError` for a value that was cut or quoted wrongly on its way into the environment."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("is not UTF-8 text") from None
    text = value.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in _QUOTES:
        raise ValueError("is in quotes, which count as a part of the value: remove them")


def _listed(value: str) -> list[str]:
    """The parts of a list that is separated by commas."""
    return [part.strip() for part in value.split(",") if part.strip()]


def _wait(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(_NO_WAITS) from None


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(_NO_NETWORK) from None
