"""Finds every error code in the source, from its syntax tree."""

import ast
from collections.abc import Iterator
from pathlib import Path

from loyalpro.kernel import errors
from loyalpro.kernel.errors import LoyalProError
from loyalpro.web.errors import status_of


def error_codes(source: Path) -> set[str]:
    """Every code of an error: that of its class, or the one that the raising code gives."""
    # The samples of events contain a `code` that is the name of a fraud rule.
    modules = [each for each in sorted(source.rglob("*.py")) if each.name != "samples.py"]
    return {code for module in modules for code in _codes(ast.parse(module.read_text("utf-8")))}


def raised_statuses(source: Path) -> dict[str, int]:
    """The HTTP status of each code that is an argument of an error class."""
    found: dict[str, int] = {}
    for module in sorted(source.rglob("*.py")):
        for call in [each for each in ast.walk(ast.parse(module.read_text("utf-8"))) if isinstance(each, ast.Call)]:
            made = _error_class(call)
            for keyword in call.keywords:
                if made and keyword.arg == "code":
                    found |= {code: status_of(made("")) for code in _texts(keyword.value)}
    return found


def class_statuses() -> dict[str, int]:
    """The code and HTTP status of each class in the tree of errors."""
    waiting, found = [LoyalProError], {}
    while waiting:
        each = waiting.pop()
        found[each.code] = status_of(each(""))
        waiting += [child for child in each.__subclasses__() if child.__module__ == errors.__name__]
    return found


def _error_class(call: ast.Call) -> type[LoyalProError] | None:
    named = getattr(errors, call.func.id, None) if isinstance(call.func, ast.Name) else None
    return named if isinstance(named, type) and issubclass(named, LoyalProError) else None


def _codes(tree: ast.Module) -> Iterator[str]:
    takes_code = {each.name: _position(each) for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from _given(node, takes_code)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _unpacked(node)
        elif isinstance(node, ast.Assign) and any(isinstance(to, ast.Name) and to.id == "code" for to in node.targets):
            yield from _texts(node.value)


def _given(call: ast.Call, takes_code: dict[str, int | None]) -> Iterator[str]:
    """`code="..."`, and the argument of a function of the same module that has a parameter called `code`."""
    for keyword in call.keywords:
        if keyword.arg == "code":
            yield from _texts(keyword.value)
    name = call.func.id if isinstance(call.func, ast.Name) else ""
    position = 1 if name == "problem" else takes_code.get(name)
    if position is not None and position < len(call.args):
        yield from _texts(call.args[position])


def _unpacked(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """`code, detail = ...`: the first element of every pair in the function."""
    targets = [node.targets[0] for node in ast.walk(function) if isinstance(node, ast.Assign)]
    pairs = [each for each in targets if isinstance(each, ast.Tuple)]
    if any(isinstance(pair.elts[0], ast.Name) and pair.elts[0].id == "code" for pair in pairs):
        for node in ast.walk(function):
            if isinstance(node, ast.Tuple) and isinstance(node.ctx, ast.Load) and len(node.elts) == 2:
                yield from _texts(node.elts[0])


def _texts(value: ast.expr) -> Iterator[str]:
    """The strings that an expression can evaluate to: a constant, both sides of a condition, the values of a table."""
    match value:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=body, orelse=other):
            yield from _texts(body)
            yield from _texts(other)
        case ast.Dict(values=values):
            for each in values:
                yield from _texts(each)
        case ast.Call(func=ast.Attribute(value=ast.Dict() as table, attr="get"), args=[_, default]):
            yield from _texts(table)
            yield from _texts(default)


def _position(function: ast.FunctionDef) -> int | None:
    names = [each.arg for each in function.args.args]
    return names.index("code") if "code" in names else None
