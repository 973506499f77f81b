"""Figures of how core reads: ``python tests/figures.py [FOLDER]``, by default core's package.

Files, floors of imports, circles, length of functions, comments, tuple assignments, documented public functions.
``core/tests/test_architecture.py`` reads imports too: core's tests run where core is alone, without this file.
"""

from __future__ import annotations

import ast
import io
import json
import statistics
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

CORE = Path(__file__).parents[1] / "core" / "src" / "mtl_core"


def modules(folder: Path) -> dict[str, Path]:
    """Module → file."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(tree: ast.AST, known: set[str]) -> set[str]:
    """The modules of the folder that a file imports."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                found.add(below if below in known else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & known


def floors(graph: dict[str, set[str]]) -> tuple[int, int]:
    """How many floors the imports have, and how many modules stand in circles."""
    rest = dict(graph)
    count = 0
    while ground := {module for module, targets in rest.items() if not targets & rest.keys()}:
        rest = {module: targets for module, targets in rest.items() if module not in ground}
        count += 1
    return count, len(rest)


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of the body, without the docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


def is_tuple_assignment(node: ast.AST) -> bool:
    return isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple) and isinstance(node.targets[0], ast.Tuple)


def comments(text: str) -> int:
    """Comments, without those that only steer a tool."""
    tools = ("# type:", "# noqa", "# fmt:", "# pragma")
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return sum(token.type == tokenize.COMMENT and not token.string.startswith(tools) for token in tokens)


def figures(folder: Path) -> dict[str, float]:
    texts = {module: path.read_text("utf-8") for module, path in modules(folder).items()}
    trees = {module: ast.parse(text) for module, text in texts.items()}
    front = folder.name
    graph = {module: imports(tree, set(trees)) - {module, front} for module, tree in trees.items()}
    count, circles = floors(graph)
    found = [function for tree in trees.values() for function in functions(tree)]
    lengths = sorted(map(length, found))
    public = [function for function in found if not function.name.startswith("_")]
    lines = sum(len(text.splitlines()) for text in texts.values())
    pairs = sum(is_tuple_assignment(node) for tree in trees.values() for node in ast.walk(tree))
    return {
        "files": len(texts),
        "lines": lines,
        "floors": count,
        "modules in circles": circles,
        "functions": len(found),
        "function length, median": statistics.median(lengths),
        "function length, p90": lengths[int(0.9 * len(lengths))],
        "function length, max": lengths[-1],
        "comments per 100 lines": round(100 * sum(map(comments, texts.values())) / lines, 1),
        "tuple assignments per 1000 lines": round(1000 * pairs / lines, 1),
        "functions that begin with an underscore, %": round(100 - 100 * len(public) / len(found)),
        "public functions documented, %": round(100 * sum(bool(ast.get_docstring(f)) for f in public) / len(public)),
    }


if __name__ == "__main__":
    print(json.dumps(figures(Path(sys.argv[1]) if sys.argv[1:] else CORE), indent=1))
