"""`loyalpro import`: sends a CSV file of any size to a server, in parts that one request can hold."""

import csv
import hashlib
import io
import json
import random
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from loyalpro.cli.api_client import ApiClient
from loyalpro.kernel.errors import InvalidInput, LoyalProError
from loyalpro.loyalty.bulk.csv_text import delimiter_of, read_csv

PART_BYTES: Final = 600_000
"""The text of a part; as JSON it is larger, and a request may have 1 MiB."""
PART_ROWS: Final = 5_000
_SHOWN_REFUSALS: Final = 10
_PAGE: Final = 100
_PAUSE_S: Final = 0.1
_ENDED: Final = ("done", "failed", "canceled")


@dataclass(frozen=True)
class Part:
    """Some rows of a file with its header. `lines`: for a line of the text, the line of the file; `end`: its end in bytes."""

    text: str
    lines: dict[int, int]
    end: int


@dataclass
class Progressed:
    """How far an import is: what is stored beside the file until it is finished."""

    run: str
    options: str
    parts: int = 0
    imported: int = 0
    unchanged: int = 0
    refused: int = 0
    shown: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class FileImport:
    """A file to import. `body`: the fields of the request besides `csv`. `errors`: a CSV file for the rows that are refused."""

    path: Path
    body: dict[str, Any]
    errors: Path | None
    resume: bool

    def run(self, client: ApiClient) -> Progressed:
        """Send the parts one after the other, each when the one before has ended."""
        state = self._begin()
        columns = [TextColumn("importing"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()]
        console = Console(stderr=True)
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            bar = progress.add_task("", total=self.path.stat().st_size)
            for number, part in enumerate(parts(self.path)):
                if number >= state.parts:
                    self._send(client, part, state)
                progress.update(bar, completed=part.end)
        self._state_file.unlink(missing_ok=True)
        return state

    @property
    def _state_file(self) -> Path:
        return self.path.with_name(f"{self.path.name}.import-state")

    def _begin(self) -> Progressed:
        """The state of the import to be resumed, or a new one."""
        options = json.dumps(self.body, sort_keys=True)
        if self.resume and self._state_file.exists():
            state = Progressed(**json.loads(self._state_file.read_text("utf-8")))
            if state.options == options:
                return state
            raise InvalidInput("This file was being imported with other options; repeat those, or leave out --resume.")
        if self.errors is not None:
            with self.errors.open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerow(("line", "code", "param", "detail"))
        return Progressed(f"{random.SystemRandom().getrandbits(64):016x}", options)

    def _send(self, client: ApiClient, part: Part, state: Progressed) -> None:
        """Import a part, and store that it is done. A part that is sent again after a failure is the same job."""
        key = hashlib.sha256(f"{state.run}/{state.parts}".encode()).hexdigest()
        job = client.call("POST", "/v1/imports", {**self.body, "csv": part.text}, idempotency_key=key)
        path, pause = f"/v1/imports/{job['id']}", threading.Event()
        while job["status"] not in _ENDED:
            pause.wait(_PAUSE_S)
            job = client.call("GET", path)
        if job["status"] != "done":
            raise LoyalProError(f"The import {job['id']} is {job['status']}. {job['error'] or ''}".strip())
        self._note_refusals(client, path, part, state, job["refused"])
        state.parts += 1
        state.imported += job["imported"]
        state.unchanged += job["unchanged"]
        state.refused += job["refused"]
        self._state_file.write_text(json.dumps(vars(state)), "utf-8")

    def _note_refusals(self, client: ApiClient, path: str, part: Part, state: Progressed, count: int) -> None:
        """Write refused rows, with their lines of the file, to the file of errors."""
        if not count:
            return
        found = [(part.lines[each["line"]], each["code"], each["param"], each["detail"]) for each in _all(client, path)]
        shown = [f"line {line}: {detail}" for line, _, _, detail in found]
        state.shown = [*state.shown, *shown][:_SHOWN_REFUSALS]
        if self.errors is not None:
            with self.errors.open("a", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows(found)


def parts(path: Path) -> Iterator[Part]:
    """The file in parts of whole rows, each with the header. Raises `InvalidInput` for a text that is not CSV."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        source = _Lines(file)
        try:
            yield from _parts(source)
        except UnicodeDecodeError:
            raise InvalidInput(
                f"The file is not UTF-8, somewhere behind byte {source.end}; save it as UTF-8."
            ) from None


def _parts(source: "_Lines") -> Iterator[Part]:
    delimiter = delimiter_of(source.peek())
    header: list[str] | None = None
    chunk: list[tuple[int, list[str]]] = []
    size = 0
    for line, cells in _rows(csv.reader(source, delimiter=delimiter, strict=True)):
        if header is None:
            header = cells
            continue
        size += sum(map(len, map(str.encode, cells))) + 3 * len(cells)
        chunk.append((line, cells))
        if size >= PART_BYTES or len(chunk) >= PART_ROWS:
            yield _part(header, delimiter, chunk, source.end)
            chunk, size = [], 0
    if chunk and header is not None:
        yield _part(header, delimiter, chunk, source.end)


class _Lines:
    """The lines of a file, and how many bytes of it were read."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._peeked: list[str] = []
        self.end = 0

    def peek(self) -> str:
        """The first line, which is read again."""
        line = self._file.readline()
        self._peeked.append(line)
        return line

    def __iter__(self) -> Iterator[str]:
        for line in self._peeked:
            yield self._counted(line)
        for line in self._file:
            yield self._counted(line)

    def _counted(self, line: str) -> str:
        self.end += len(line.encode())
        return line


def _rows(reader: Any) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, each with the line on which it begins."""
    line = 1
    try:
        for cells in reader:
            if any(cells):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise InvalidInput(f"Line {line} is not CSV: {error}.") from None


def _part(header: Sequence[str], delimiter: str, chunk: Sequence[tuple[int, list[str]]], end: int) -> Part:
    text = _text([header, *(cells for _, cells in chunk)], delimiter)
    lines = [line for line, _ in read_csv(text).rows]
    return Part(text, dict(zip(lines, (line for line, _ in chunk), strict=True)), end)


def _text(rows: Sequence[Sequence[str]], delimiter: str) -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="\r\n").writerows(rows)
    return out.getvalue()


def _all(client: ApiClient, path: str) -> Iterator[dict[str, Any]]:
    """Every refused row of an import."""
    cursor: str | None = ""
    while cursor is not None:
        page = client.call("GET", f"{path}/refusals?limit={_PAGE}" + (f"&cursor={cursor}" if cursor else ""))
        yield from page["data"]
        cursor = page["next_cursor"]
