"""Generates the pages of docs/reference that follow from the code: the environment, the commands and the events.

`python scripts/reference.py` writes them; with `--check` it writes nothing, and exits with 1 when a page is not current.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import typer.main
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from loyalpro.cli.main import app
from loyalpro.events.catalog import API_VERSION, EVENT_TYPES, EventType
from loyalpro.events.samples import sample_body
from loyalpro.settings import Settings

FOLDER: Final = Path(__file__).resolve().parent.parent / "docs" / "reference"
_LIMITS: Final = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}
_PLAIN: Final = {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "100"}
_COLOR_VARIABLES: Final = ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "TERMINAL_WIDTH")
_HELPS: Final = """
import json, sys
from typer.testing import CliRunner
from loyalpro.cli.main import app
print(json.dumps([
    CliRunner().invoke(app, [*words, "--help"], prog_name="loyalpro", catch_exceptions=False).output
    for words in json.loads(sys.argv[1])
]))
"""
"""Prints the help of every command, in a process whose environment decides how wide and how plain it is."""
_GENERATED: Final = "<!-- Written by scripts/reference.py: change the code, then run `make docs`. -->"


def environment() -> str:
    """The page of the `LOYALPRO_*` variables."""
    intro = (
        "# Environment\n\n"
        f"{_GENERATED}\n\n"
        "LoyalPro reads its settings from environment variables, once, when it starts. An invalid value stops the\n"
        "start with a line that names the variable. Names are not case-sensitive. An empty value is the same as none, and\n"
        "white space around a value does not count. A variable that starts with `LOYALPRO_` and is not listed here has no\n"
        "effect: the start warns of it and names the nearest one ([`LOYALPRO_STRICT`](#loyalpro_strict) refuses it).\n"
        "`LOYALPRO_SERVER` and `LOYALPRO_API_KEY` are for [commands](commands.md) that talk to a server.\n"
    )
    return "\n".join([intro, *(_variable(name, field) for name, field in Settings.model_fields.items())])


def variable_name(field_name: str) -> str:
    """`data_dir` -> `LOYALPRO_DATA_DIR`."""
    return f"{Settings.model_config['env_prefix']}{field_name}".upper()


def _variable(name: str, field: FieldInfo) -> str:
    lines = [f"## `{variable_name(name)}`", "", field.description or "", "", f"* Default: {_default(field)}"]
    if limits := _limits(field):
        lines.append(f"* Takes: {limits}")
    lines += [f"* Example: `{variable_name(name)}={example}`" for example in field.examples or ()]
    return "\n".join(lines) + "\n"


def _default(field: FieldInfo) -> str:
    value = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
    if value is None or value in ("", ()):
        return "empty"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _limits(field: FieldInfo) -> str:
    found = [
        f"{words} {getattr(limit, name):g}"
        for limit in field.metadata
        for name, words in _LIMITS.items()
        if getattr(limit, name, None) is not None
    ]
    patterns = [each for each in (getattr(limit, "pattern", None) for limit in field.metadata) if each]
    found += [", ".join(f"`{word}`" for word in each.strip("^()$").split("|")) for each in patterns]
    return ", ".join(found)


def commands() -> str:
    """The page of the commands: the output of `--help`."""
    intro = (
        "# Commands\n\n"
        f"{_GENERATED}\n\n"
        "`make setup` puts the `loyalpro` command into `.venv/bin`. `serve`, `worker`, `migrate`,\n"
        "`accounts` and `keys` read the [environment](environment.md). `events`, `deliveries` and `endpoints` call a running\n"
        "server: `LOYALPRO_SERVER` is its address, and `LOYALPRO_API_KEY` the key of an account.\n"
    )
    words = list(_every_command())
    helps = zip(words, _helps([each[1:] for each in words]), strict=True)
    return "\n".join([intro, *(f"## `{' '.join(each)}`\n\n```text\n{text}\n```\n" for each, text in helps)])


def _every_command() -> Iterator[tuple[str, ...]]:
    root = typer.main.get_command(app)
    waiting = [(("loyalpro",), root)]
    while waiting:
        words, command = waiting.pop(0)
        yield words
        waiting += [((*words, name), each) for name, each in getattr(command, "commands", {}).items()]


def _helps(commands: Sequence[Sequence[str]]) -> list[str]:
    """The output of `--help` of each command; the same text with or without a terminal."""
    surroundings = {name: value for name, value in os.environ.items() if name not in _COLOR_VARIABLES}
    program = [sys.executable, "-c", _HELPS, json.dumps(commands)]
    done = subprocess.run(program, env=surroundings | _PLAIN, capture_output=True, text=True, check=True)
    return ["\n".join(line.rstrip() for line in text.splitlines()).strip("\n") for text in json.loads(done.stdout)]


def events() -> str:
    """The page of the event types and their fields."""
    intro = (
        "# Events\n\n"
        f"{_GENERATED}\n\n"
        "The fields of `data` for each event type, in `api_version` "
        f"{API_VERSION}, and an indented sample of the whole body.\n"
        "[webhooks.md](webhooks.md#the-body) describes the fields around `data`. `GET /v1/event_types` has the same as JSON\n"
        "Schemas. Money is an integer in the currency's minor unit; times are RFC 3339 in UTC with milliseconds.\n"
        "Where the content is `a`, `b` or another string, the named values are the known ones; others may be added.\n"
    )
    return "\n".join([intro, *(_event(each) for each in EVENT_TYPES.values())])


def _event(event_type: EventType) -> str:
    schema = event_type.body_schema()
    fields = schema["properties"]["data"]["properties"]
    rows = "\n".join(f"| `{name}` | {_kind(field, schema)}{_remark(field)} |" for name, field in fields.items())
    body = json.dumps(sample_body(event_type.name), indent=2, ensure_ascii=False)
    return (
        f"## `{event_type.name}`\n\n{event_type.description}\n\n"
        f"| field of `data` | content |\n|---|---|\n{rows}\n\n"
        f"```json\n{body}\n```\n"
    )


def _remark(field: dict[str, Any]) -> str:
    return f": {field['description'].rstrip('.')}" if "description" in field and "$ref" not in field else ""


def _kind(field: dict[str, Any], schema: dict[str, Any]) -> str:
    """A field's type in words: `string or null`, `a, b or another string`, `object: ...`."""
    if "$ref" in field:
        return _kind(schema["$defs"][field["$ref"].rpartition("/")[2]], schema)
    if "anyOf" in field:
        kinds = [_kind(each, schema) for each in field["anyOf"]]
        return " or ".join(kind for kind in kinds if not (kind == "integer" and "number" in kinds))
    if "examples" in field:
        return ", ".join(f"`{value}`" for value in field["examples"]) + f" or another {field['type']}"
    if "properties" in field:
        return "object: " + ", ".join(f"`{name}`" for name in field["properties"])
    if field.get("type") == "array":
        return f"list of {_kind(field['items'], schema)}"
    return str(field.get("type", "any"))


PAGES: Final[dict[str, Callable[[], str]]] = {
    "environment.md": environment,
    "commands.md": commands,
    "events.md": events,
}


def stale() -> list[str]:
    """The pages that differ from what the code generates."""
    current = {name: (FOLDER / name).read_text("utf-8") if (FOLDER / name).exists() else "" for name in PAGES}
    return [name for name, render in PAGES.items() if render() != current[name]]


def main() -> int:
    """Write the pages, or check them; the exit status."""
    if "--check" in sys.argv[1:]:
        found = stale()
        sys.stderr.writelines(f"docs/reference/{name} is not current; run: make docs\n" for name in found)
        return 1 if found else 0
    for name, render in PAGES.items():
        (FOLDER / name).write_text(render(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
