"""What only its own file uses begins with an underscore: the other names are what the rest of the code builds on."""

from __future__ import annotations

import ast
import importlib
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = ("core/src", "plugins/*/src", "contrib/*/src")
PYTHON = ("conftest.py", *(f"{folder}/**/*.py" for folder in ("core", "plugins", "contrib", "tests", "docs", "site")))
PAGES = ("README.md", "*/README.md", "*/*/README.md", "docs/**/*.md", "templates/**/*")
PROJECTS = ("core/pyproject.toml", "*/*/pyproject.toml")
KIT = "mtl_core.testing"
"""The kit for authors' tests: theirs as a whole."""

KEPT = {
    ("mtl_cifar100.__main__", "main"): "what `python -m mtl_cifar100` runs",
    ("mtl_core.hooks.hookspecs", "Size"): "the signatures of hooks in the documentation have it",
    ("mtl_nyuv2.dataset", "NYUv2Dataset"): "mtl-data names the file of the cache after the class",
}
"""Names that something other than Python code uses."""

LIBRARIES = ("core", "plugins/mtl-nn", "plugins/mtl-data")
"""Authors may call the methods of the classes that these export."""

DOTTED = re.compile(r"\b(mtl_\w+(?:\.\w+)*)[.:](\w+)")
IMPORTED = re.compile(r"^\s*from (mtl_[\w.]+) import \(?([\w, \n]+)", re.MULTILINE)
BY_NAME = {"getattr", "hasattr", "setattr", "attrgetter", "methodcaller"}
"""Functions that take the name of an attribute."""

Name = tuple[str, str]
"""A module and a name in it."""


@cache
def python_files() -> tuple[Path, ...]:
    return tuple(sorted(path for pattern in PYTHON for path in ROOT.glob(pattern)))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@cache
def modules() -> dict[str, Path]:
    """Module → its file, of every distribution."""
    found = {}
    for source in sorted(folder for pattern in SOURCES for folder in ROOT.glob(pattern)):
        for path in sorted(source.rglob("*.py")):
            parts = path.relative_to(source).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def distribution(path: Path) -> str:
    """The folder of the distribution that a file belongs to; tests included."""
    parts = path.relative_to(ROOT).parts
    return "/".join(parts[:2]) if parts[0] in {"plugins", "contrib"} else parts[0]


def is_test(path: Path) -> bool:
    return "tests" in path.relative_to(ROOT).parts


CHECKED = [module for module in modules() if module != KIT and not module.startswith(f"{KIT}.")]


def top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        if isinstance(statement, ast.If):
            yield from top_level([*statement.body, *statement.orelse])
        elif isinstance(statement, ast.Try):
            yield from top_level([*statement.body, *(each for handler in statement.handlers for each in handler.body)])
        else:
            yield statement


def dotted(node: ast.expr) -> str:
    """``a.b.c`` of an expression, empty for any other."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return ""


def decorators(function: ast.FunctionDef) -> set[str]:
    calls = [each.func if isinstance(each, ast.Call) else each for each in function.decorator_list]
    return {dotted(call).split(".")[-1] for call in calls}


def defined(module: ast.Module) -> dict[str, ast.stmt]:
    """The names without an underscore that a file defines at its top level; commands and hooks must have theirs."""
    found: dict[str, ast.stmt] = {}
    for statement in top_level(module.body):
        if isinstance(statement, ast.ClassDef):
            found[statement.name] = statement
        elif isinstance(statement, ast.FunctionDef):
            if not decorators(statement) & {"command", "callback", "hookspec"}:
                found[statement.name] = statement
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            nodes = [node for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
            found |= {node.id: statement for node in nodes if isinstance(node.ctx, ast.Store)}
    return {name: statement for name, statement in found.items() if not name.startswith("_")}


@cache
def bound_modules(module: ast.Module) -> dict[str, str]:
    """Local name → the module that it stands for, anywhere in a file; of those imported by ``from`` only ours."""
    found = {}
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.split(".")[0]
                found[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if f"{node.module}.{alias.name}" in modules():
                    found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return found


def uses(module: ast.Module) -> set[Name]:
    """What a file takes of other modules: by import, as an attribute of a module, or named in a string."""
    found: set[Name] = set()
    bound = bound_modules(module)

    def add(owner: ast.expr, name: str) -> None:
        first, _, rest = dotted(owner).partition(".")
        if first in bound:
            found.add((f"{bound[first]}.{rest}".rstrip("."), name))

    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {(node.module, alias.name) for alias in node.names}
        elif isinstance(node, ast.Attribute):
            add(node.value, node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= set(DOTTED.findall(node.value))
        elif isinstance(node, ast.Call) and len(node.args) > 1 and dotted(node.func).split(".")[-1] in BY_NAME:
            owner, name = node.args[:2]
            if isinstance(name, ast.Constant):
                add(owner, str(name.value))
    return found


@cache
def users() -> dict[Name, set[Path]]:
    found = defaultdict(set)
    for path in python_files():
        for use in uses(tree(path)):
            found[use].add(path)
    return found


@cache
def named_in_texts() -> frozenset[Name]:
    """What documents, templates and entry points name."""
    found: set[Name] = set()
    for path in sorted({path for pattern in (*PAGES, *PROJECTS) for path in ROOT.glob(pattern) if path.is_file()}):
        text = path.read_text("utf-8")
        found |= set(DOTTED.findall(text))
        for module, names in IMPORTED.findall(text):
            found |= {(module, name.split()[0]) for name in names.split(",") if name.strip()}
    return frozenset(found)


def exported(module: ast.Module) -> set[str]:
    for statement in module.body:
        if isinstance(statement, ast.Assign) and dotted(statement.targets[0]) == "__all__":
            return set(ast.literal_eval(statement.value))
    return set()


def used_elsewhere(module: str, name: str) -> bool:
    """Whether another file needs a name; tests of its own distribution may reach for a private one."""
    home = modules()[module]
    others = users().get((module, name), set()) - {home}
    if any(not is_test(path) or distribution(path) != distribution(home) for path in others):
        return True
    return (module, name) in KEPT or (module, name) in named_in_texts() or name in exported(tree(home))


def signature(statement: ast.stmt) -> Iterator[ast.expr]:
    """The annotations of a function, of a class's fields and public methods, of a constant; and a class's bases."""
    if isinstance(statement, ast.FunctionDef):
        arguments = statement.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        yield from (each.annotation for each in every if each and each.annotation)
        if statement.returns:
            yield statement.returns
    elif isinstance(statement, ast.ClassDef):
        yield from statement.bases
        for each in statement.body:
            name = getattr(each, "name", "") or dotted(getattr(each, "target", ast.Constant("")))
            if name == "__init__" or not name.startswith("_"):
                yield from signature(each)
    elif isinstance(statement, ast.AnnAssign):
        yield statement.annotation


def held(names: dict[str, ast.stmt], shared: set[str]) -> set[str]:
    """Classes whose objects other files hold: those in the signatures of what the files share."""
    found: set[str] = set()
    fresh = shared
    while fresh:
        nodes = [node for name in fresh for each in signature(names[name]) for node in ast.walk(each)]
        named = {node.id for node in nodes if isinstance(node, ast.Name)}
        fresh = {name for name in named if isinstance(names.get(name), ast.ClassDef)} - shared - found
        found |= fresh
    return found


def private(module: str) -> set[str]:
    """The names of a module that should begin with an underscore and do not."""
    names = defined(tree(modules()[module]))
    shared = {name for name in names if used_elsewhere(module, name)}
    return names.keys() - shared - held(names, shared)


@pytest.mark.parametrize("module", CHECKED)
def test_names_for_one_file_begin_with_an_underscore(module: str) -> None:
    found = private(module)
    assert not found, f"only {modules()[module].relative_to(ROOT)} uses {sorted(found)}; begin them with an underscore"


# names of methods


@cache
def classes() -> dict[str, list[tuple[str, ast.ClassDef]]]:
    """Name of a class → the modules that define one, with its code."""
    found = defaultdict(list)
    for module, path in modules().items():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef):
                found[node.name].append((module, node))
    return found


def methods(cls: ast.ClassDef) -> dict[str, ast.FunctionDef]:
    return {each.name: each for each in cls.body if isinstance(each, ast.FunctionDef)}


def own_calls(module: ast.Module) -> set[ast.Attribute]:
    """What classes take of ``self`` that they define themselves."""
    found = set()
    for cls in (node for node in ast.walk(module) if isinstance(node, ast.ClassDef)):
        own = methods(cls)
        for node in ast.walk(cls):
            if isinstance(node, ast.Attribute) and node.attr in own and dotted(node.value) in {"self", "cls"}:
                found.add(node)
    return found


@cache
def called() -> frozenset[str]:
    """Names of attributes that any file takes of other objects than ``self``, or that a class has from its bases."""
    found: set[str] = set()
    for path in python_files():
        own, bound = own_calls(tree(path)), bound_modules(tree(path))
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Attribute):
                if node not in own and dotted(node.value).split(".")[0] not in bound:
                    found.add(node.attr)
            elif isinstance(node, ast.Call) and dotted(node.func).split(".")[-1] in BY_NAME:
                found |= {str(each.value) for each in node.args if isinstance(each, ast.Constant)}
    return frozenset(found)


def bases(module: str, cls: ast.ClassDef) -> Iterator[tuple[str, ast.expr]]:
    """Every class that a class stands on, ours followed to the end."""
    for base in cls.bases:
        expression = base.value if isinstance(base, ast.Subscript) else base
        yield module, expression
        for home, above in classes().get(dotted(expression).split(".")[-1], []):
            yield from bases(home, above)


def has_foreign(module: str, base: ast.expr, method: str) -> bool:
    """Whether a base of a library has a method."""
    first, *rest = dotted(base).split(".")
    for node in ast.walk(tree(modules()[module])):
        for alias in node.names if isinstance(node, ast.Import | ast.ImportFrom) else []:
            if first != (alias.asname or alias.name.split(".")[0]):
                continue
            if isinstance(node, ast.ImportFrom):
                found = importlib.import_module(node.module or "")
                rest = [alias.name, *rest]
            else:
                found = importlib.import_module(alias.name if alias.asname else first)
            for part in rest:
                found = getattr(found, part)
            return hasattr(found, method)
    return False


def is_shared_with_relatives(module: str, cls: ast.ClassDef, method: str) -> bool:
    """Whether a base has the method, or a subclass in another file overrides it."""
    for home, base in bases(module, cls):
        ours = classes().get(dotted(base).split(".")[-1], [])
        if any(method in methods(above) for _, above in ours) or has_foreign(home, base, method):
            return True
    for other, below in (each for found in classes().values() for each in found):
        names = {dotted(base).split(".")[-1] for _, base in bases(other, below)}
        if cls.name in names and other != module and method in methods(below):
            return True
    return False


def private_methods(module: str) -> set[str]:
    """Methods that only ``self`` calls and that do not begin with an underscore."""
    path = modules()[module]
    found = set()
    public = {name for library in LIBRARIES for name in front(library)}
    for cls in (node for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef) and node.name not in public):
        for name, method in methods(cls).items():
            if name.startswith("_") or name in called() or decorators(method) & {"hookimpl", "setter", "validator"}:
                continue
            if not is_shared_with_relatives(module, cls, name):
                found.add(f"{cls.name}.{name}")
    return found


@cache
def front(library: str) -> frozenset[str]:
    """What a library exports, its kit for tests included."""
    files = [
        path for form in ("__init__.py", "testing/__init__.py") for path in ROOT.glob(f"{library}/src/mtl_*/{form}")
    ]
    return frozenset(name for path in files for name in exported(tree(path)))


@pytest.mark.parametrize("module", CHECKED)
def test_methods_that_only_self_calls_begin_with_an_underscore(module: str) -> None:
    found = private_methods(module)
    assert not found, f"in {modules()[module].relative_to(ROOT)} only self calls {sorted(found)}"
