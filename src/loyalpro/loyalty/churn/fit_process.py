"""Fits a model in a process of its own, because a fit computes for seconds. The process gets numbers and returns numbers."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from loyalpro.kernel.errors import LoyalProError
from loyalpro.loyalty.churn.features import History
from loyalpro.loyalty.churn.fit import Fit, fit, is_enough
from loyalpro.loyalty.churn.mbg_nbd import Parameters

MOST_S: Final = 600.0
"""How long a fit may take. 20,000 customers with 12,000 different histories take 3 seconds of a processor, and other
processes come first."""
_NICENESS: Final = 10
_PASSED_ON: Final = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH")


class FitFailed(LoyalProError):
    """The process of a fit failed, or took too long."""


async def fit_apart(histories: Sequence[History], most_s: float = MOST_S) -> Fit | None:
    """`fit` in a process of its own, which is ended after `most_s`, and when this call is canceled. Raises `FitFailed`."""
    if not is_enough(histories):
        return None
    rows = [(each.repeats, each.recency, each.age) for each in histories]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "loyalpro.loyalty.churn.fit_process"),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},  # no secrets
    )
    try:
        async with asyncio.timeout(most_s):
            output, _ = await process.communicate(json.dumps(rows).encode())
    except TimeoutError:
        raise FitFailed(f"The fit took longer than {most_s:g} seconds.") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise FitFailed(f"The process of the fit ended with {process.returncode}.")
    return _fit(json.loads(output))


def _fit(found: dict[str, Any] | None) -> Fit | None:
    return (
        None if found is None else Fit(Parameters(**found["parameters"]), found["customers"], found["log_likelihood"])
    )


def main() -> None:
    """Read histories from the standard input, and write their fit to the standard output, as JSON."""
    os.nice(_NICENESS)
    found = fit([History(*row) for row in json.load(sys.stdin)])
    json.dump(None if found is None else asdict(found), sys.stdout)


if __name__ == "__main__":
    main()
