"""`promtool` of Prometheus, which checks metrics and rules."""

from support.debian import program


def promtool() -> str:
    """The path of promtool. Debian's package also starts a server of Prometheus where services run."""
    return str(program("promtool", "prometheus"))
