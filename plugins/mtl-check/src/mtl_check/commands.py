"""``mtl check`` and ``mtl doctor``."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from mtl_check.findings import Findings

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def check(
    name: Annotated[str, typer.Argument(metavar="PLUGIN", help="A plugin, a kind of task, or ./file.py.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="OPTION=VALUE", help="An option of it.")
    ] = None,
    train: Annotated[bool, typer.Option(help="Train two steps too, stopped and resumed.")] = True,
    as_json: _Json = False,
) -> None:
    """Try every contract that fits a plugin, and train it for two steps.

    Example: mtl check jtr --set c_dist=2
    """
    from mtl_check.named import find, make
    from mtl_check.plugin import check_kind, check_plugin
    from mtl_core import Task

    cls = find(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if issubclass(cls, Task):
            found = check_kind(cls, Path(name).stem.replace(":", "-"))
        else:
            found = check_plugin(make(cls, name, overrides or []), train)
    if as_json:
        print(
            json.dumps({"passed": found.passed, "failed": found.causes, "refused": found.refused}, ensure_ascii=False)
        )
    else:
        _show(name, found, Console(highlight=False, soft_wrap=True))
    if found.failed or not found.passed:
        raise typer.Exit(1)


def _show(name: str, found: Findings, console: Console) -> None:
    """A line per cause, and what was refused."""
    for message, checks in found.causes.items():
        console.print(f"[red]✗[/red] {escape(message)}\n    found by {escape(_listed(checks))}")
    for message, checks in found.refused.items():
        console.print(f"– refused: {escape(message)}\n    tried: {escape(_listed(checks))}")
    faults = len(found.causes)
    fault_note = f", {faults} fault{'s' if faults > 1 else ''}" if faults else ""
    console.print(f"{escape(name)}: {found.passed} checks passed{fault_note}")
    if not found.passed and not faults:
        console.print("nothing could be checked; give the options that it needs with --set OPTION=VALUE")


def _listed(checks: dict[str, list[str]], most: int = 4) -> str:
    shown = [f"{name} ({', '.join(forms)})" if forms else name for name, forms in checks.items()]
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return "; ".join(shown[:most]) + more


def doctor(as_json: _Json = False) -> None:
    """Look whether this installation works: versions, stale entry points, devices, disk, a training of two steps."""
    from mtl_check.doctor import look

    lines = look(Path.cwd())
    if as_json:
        rows = [{"what": line.what, "found": line.found, "remedy": line.remedy or None} for line in lines]
        print(json.dumps(rows, ensure_ascii=False))
    else:
        console = Console(highlight=False, soft_wrap=True)
        for line in lines:
            mark = "[red]✗[/red]" if line.remedy else "[green]✓[/green]"
            remedy = f"; {line.remedy}" if line.remedy else ""
            console.print(f"{mark} {escape(f'{line.what}: {line.found}{remedy}')}")
    if any(line.remedy for line in lines):
        raise typer.Exit(1)
