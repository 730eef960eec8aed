"""Raises the limit of open files and connections of the process, and logs a warning when it is low."""

import resource
from typing import Final

import structlog

from loyalpro.delivery.endpoint_queues import Bounds

_OTHER_FILES: Final = 2_500
"""Open files that do not belong to an attempt: idle connections to receivers, API clients, and the database."""


def raise_limit() -> None:
    """Raise the soft limit to the hard limit, which needs no privileges."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    in_flight = Bounds().in_flight
    needed = in_flight + _OTHER_FILES
    if is_few(hard, needed):
        structlog.get_logger("server").warning(
            "few_open_files",
            limit=hard,
            needed=needed,
            in_flight=in_flight,
            advice="raise the limit of open files: LimitNOFILE in a systemd unit, ulimit -Hn elsewhere. With this limit,"
            " deliveries fail to connect while many others are being sent.",
        )


def is_few(limit: int, needed: int) -> bool:
    """Whether `limit` files may be too few when `needed` are open at the same time."""
    return limit != resource.RLIM_INFINITY and limit < needed
