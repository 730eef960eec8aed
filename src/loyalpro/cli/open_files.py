"""How many files and connections this process may have open: as many as the system lets it, and a warning if they are few."""

import resource
from typing import Final

import structlog

from loyalpro.delivery.endpoint_queues import Bounds

_BESIDES: Final = 2_500
"""What is open beside deliveries: connections to receivers that are kept for the next one, the API's callers, the database."""


def raise_limit() -> None:
    """Raise the limit as far as it goes without the rights of an administrator."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    in_flight = Bounds().in_flight
    needed = in_flight + _BESIDES
    if is_few(hard, needed):
        structlog.get_logger("server").warning(
            "few_open_files",
            limit=hard,
            needed=needed,
            in_flight=in_flight,
            advice="raise the limit of open files: LimitNOFILE in a unit of systemd, ulimit -Hn elsewhere. With so few,"
            " deliveries fail to connect while many are under way.",
        )


def is_few(limit: int, needed: int) -> bool:
    """Whether they may run out."""
    return limit != resource.RLIM_INFINITY and limit < needed
