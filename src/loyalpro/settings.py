"""The environment, read once at the start. Every variable is described in docs/reference/environment.md."""

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from loyalpro.delivery.schedule import WINDOW_S
from loyalpro.kernel.errors import ConfigurationError
from loyalpro.storage.sweep_store import RETENTION_DAYS

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Settings(BaseSettings):
    """What `LOYALPRO_*` variables say, checked."""

    model_config = SettingsConfigDict(env_prefix="LOYALPRO_", extra="ignore", frozen=True)

    data_dir: Path = Path("loyalpro-data")
    database_url: SecretStr = SecretStr("")
    host: str = "127.0.0.1"
    port: int = Field(default=8700, ge=0, le=65535)
    secret_key: SecretStr = SecretStr("")
    bootstrap_api_key: SecretStr | None = None
    bootstrap_email: str | None = None
    bootstrap_password: SecretStr | None = None
    egress_allow: Annotated[tuple[Network, ...], NoDecode] = ()
    egress_ca_file: Path | None = None
    delivery_timeout: float = Field(default=30.0, gt=0, le=30)
    retry_schedule: Annotated[tuple[float, ...] | None, NoDecode] = None
    sweep_interval: float = Field(default=60.0, gt=0)
    retention_days: int = Field(default=RETENTION_DAYS, ge=30)
    min_free_mb: int = Field(default=256, ge=0)
    log_format: str = Field(default="auto", pattern="^(auto|json|console)$")

    @field_validator("egress_allow", mode="before")
    @classmethod
    def _networks(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("retry_schedule", mode="before")
    @classmethod
    def _waits(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip()) or None

    @field_validator("retry_schedule")
    @classmethod
    def _waits_fit_the_window(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and (any(wait < 0 for wait in value) or sum(value) > WINDOW_S):
            raise ValueError("takes seconds of at least 0 that add up to at most 72 hours (259200)")
        return value

    @field_validator("bootstrap_api_key")
    @classmethod
    def _key_is_ours(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not (value.get_secret_value().startswith("lp_") and len(value) >= 16):
            raise ValueError("starts with lp_ and has at least 16 characters")
        return value

    @model_validator(mode="after")
    def _postgres_needs_a_key(self) -> Self:
        if self.is_postgres and not self.secret_keys:
            raise ValueError("LOYALPRO_SECRET_KEY is required on PostgreSQL: every host needs the same one")
        return self

    @property
    def url(self) -> str:
        """The database's address, password included: never to be logged."""
        return self.database_url.get_secret_value() or f"sqlite:///{self.data_dir / 'loyalpro.db'}"

    @property
    def is_postgres(self) -> bool:
        """Whether the database is PostgreSQL."""
        return self.url.startswith(("postgresql://", "postgres://"))

    @property
    def sqlite_path(self) -> Path:
        """The SQLite file: `sqlite:///relative/path` or `sqlite:////absolute/path`."""
        return Path(self.url.removeprefix("sqlite:///"))

    @property
    def secret_keys(self) -> list[str]:
        """Keys for secrets at rest, newest first."""
        return [key.strip() for key in self.secret_key.get_secret_value().split(",") if key.strip()]


def load() -> Settings:
    """Read the environment, or say which variable is wrong and why. Values are not repeated: some are secret."""
    try:
        settings = Settings()
    except ValidationError as error:
        reasons = [
            f"{'LOYALPRO_' + '_'.join(map(str, each['loc'])).upper() + ': ' if each['loc'] else ''}{each['msg']}"
            for each in error.errors(include_input=False)
        ]
        raise ConfigurationError("; ".join(reasons)) from None
    if not settings.is_postgres and not settings.url.startswith("sqlite:///"):
        raise ConfigurationError("LOYALPRO_DATABASE_URL: takes sqlite:///path or postgresql://user@host/name")
    return settings
