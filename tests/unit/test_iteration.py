"""No code of the program can raise `StopIteration`, which a future refuses to hold: its caller would wait for ever."""

import ast
import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import loyalpro
from loyalpro.kernel.iteration import pull
from loyalpro.web.heavy_work import LARGE_BYTES, HeavyWork

SOURCE = Path(loyalpro.__file__).parent


def offenses(source: str) -> Iterator[int]:
    """The lines that call `next` without a default, call `__next__`, or raise `StopIteration`."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id="next"), args=[_]) | ast.Call(func=ast.Attribute(attr="__next__")):
                yield node.lineno
            case ast.Name(id="next" | "StopIteration", ctx=ast.Load()):
                if not _is_harmless(node, source):
                    yield node.lineno


def _is_harmless(name: ast.Name, source: str) -> bool:
    """A call with a default, or the handler that turns the error into another one."""
    line = source.splitlines()[name.lineno - 1]
    return name.id == "next" or line.strip().startswith("except StopIteration")


def test_no_module_can_raise_stop_iteration() -> None:
    found = {
        f"{path.relative_to(SOURCE)}:{line}: use kernel.iteration.pull, or next with a default"
        for path in SOURCE.rglob("*.py")
        for line in offenses(path.read_text("utf-8"))
    }
    assert not found


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("next(x)", [1]),
        ("next(y for y in x)", [1]),
        ("x.__next__()", [1]),
        ("raise StopIteration", [1]),
        ("raise StopIteration(1)", [1]),
        ("next(x, None)", []),
        ("x.next()", []),
        ("try: pass\nexcept StopIteration as e: pass", []),
    ],
)
def test_the_check_finds_what_can_raise_it(source: str, lines: list[int]) -> None:
    assert list(offenses(source)) == lines


def test_pull_takes_one_item_and_says_when_there_is_none() -> None:
    items = iter([1, 2])
    assert [pull(items), pull(items)] == [1, 2]
    with pytest.raises(LookupError):
        pull(items)


@pytest.mark.parametrize("error", [StopIteration, StopIteration("value"), StopAsyncIteration, ValueError("own")])
@pytest.mark.parametrize("size_bytes", [1, LARGE_BYTES + 1])
def test_heavy_work_that_raises_anything_ends(error: Exception, size_bytes: int) -> None:
    def work() -> None:
        raise error

    async def run() -> None:
        await asyncio.wait_for(HeavyWork().run_for(size_bytes, work), 60)

    expected: Callable[[], object] = lambda: asyncio.run(run())  # noqa: E731
    with pytest.raises((RuntimeError, StopAsyncIteration, ValueError)):
        expected()
