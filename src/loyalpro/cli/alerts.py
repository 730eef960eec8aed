"""`loyalpro alerts`: the alert rules for Prometheus that are part of the package."""

from importlib.resources import files


def rules() -> str:
    """The text of the rule file."""
    return (files("loyalpro") / "alerts" / "loyalpro.yml").read_text("utf-8")
