"""What plugins, templates and core's relay write of a hook's arguments is what its spec says."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "core" / "src" / "mtl_core" / "hooks"
SOURCES = sorted(
    path
    for pattern in ("plugins/*/src/**/*.py", "contrib/*/src/**/*.py", "templates/*/*/src/**/*.py.jinja")
    for path in ROOT.glob(pattern)
)
SAME = {"Size": "tuple[int, int]", "_Size": "tuple[int, int]"}
"""Short names of types in the specs."""
NARROWER = {("build_heads", "backbone"), ("after_epoch", "run_folder")}
"""Arguments whose type a plugin may know better: the backbone that it built itself; a record lies in a folder."""


def parsed(path: Path) -> ast.Module:
    text = path.read_text("utf-8")
    for placeholder in ("{{ classname }}", "{{ summary }}", "{{ name }}"):
        text = text.replace(placeholder, "Placeholder")
    return ast.parse(text, str(path))


def arguments(function: ast.FunctionDef) -> dict[str, str]:
    """Name → annotation, without ``self``."""
    found = {}
    for argument in function.args.args:
        if argument.arg != "self":
            annotation = ast.unparse(argument.annotation) if argument.annotation else ""
            found[argument.arg] = SAME.get(annotation, annotation)
    return found


def functions(tree: ast.AST, decorator: str = "") -> Iterator[ast.FunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            decorators = {ast.unparse(d).partition("(")[0] for d in node.decorator_list}
            if not decorator or decorator in decorators:
                yield node


SPECS = {spec.name: arguments(spec) for spec in functions(parsed(CORE / "hookspecs.py"), "hookspec")}
IMPLEMENTATIONS = [(path, method) for path in SOURCES for method in functions(parsed(path), "hookimpl")]


@pytest.mark.parametrize(
    ("path", "method"), IMPLEMENTATIONS, ids=[f"{p.relative_to(ROOT)}:{m.lineno}" for p, m in IMPLEMENTATIONS]
)
def test_arguments_have_the_types_of_the_spec(path: Path, method: ast.FunctionDef) -> None:
    for name, annotation in arguments(method).items():
        if (method.name, name) not in NARROWER:
            assert annotation == SPECS[method.name][name], f"{path.relative_to(ROOT)}: {method.name}, {name}"


OWN = {"setup": {"seed", "name", "places", "heads"}, "after_epoch": {"record"}}
"""What the relay's method has besides the spec's arguments, or supplies itself, here or in another method; the heads
may be None where a test sets up plugins that do not ask for them."""
ASKED_ONCE = {"name_splits"}
"""Hooks whose answer the relay keeps as an attribute."""


@pytest.mark.parametrize("hook", sorted(SPECS.keys() - ASKED_ONCE))
def test_the_relay_takes_the_arguments_of_the_spec(hook: str) -> None:
    methods = {method.name: method for method in functions(parsed(CORE / "relay.py"))}
    own = OWN.get(hook, set())
    found = {name: kind for name, kind in arguments(methods[hook]).items() if name not in own}
    assert found == {name: kind for name, kind in SPECS[hook].items() if name not in own}


def test_there_is_something_to_compare() -> None:
    assert len(IMPLEMENTATIONS) > 80
    assert {method.name for _, method in IMPLEMENTATIONS} == SPECS.keys()
