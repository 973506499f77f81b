"""Import plugins in other processes: whatever one does there, it harms nothing else. Imports no torch."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from mtl_core.discovery import InstalledPlugin
from mtl_core.errors import ContractError
from mtl_core.hooks.load import load
from mtl_core.hooks.spec_table import hooks_of


def check(found: InstalledPlugin, timeout: float = 120.0) -> InstalledPlugin:
    """Import a plugin in a process of its own and say how it went; nothing that it does harms this one.

    :param timeout: seconds until it counts as broken
    :return: the plugin with status ``ok`` and its hooks, or ``broken`` with the reason
    """
    return _check_together([found], timeout)[0]


def check_all(found: Sequence[InstalledPlugin], timeout: float = 120.0) -> list[InstalledPlugin]:
    """:func:`check` for every plugin, as many as possible in one process.

    A plugin that ends the process is broken; those behind it go on in a new one.
    """
    outcomes: list[InstalledPlugin] = []
    while len(outcomes) < len(found):
        outcomes += _check_together(found[len(outcomes) :], timeout)
    return outcomes


def _check_together(found: Sequence[InstalledPlugin], timeout: float) -> list[InstalledPlugin]:
    """Import plugins one after the other in one process, up to one that ends it: its outcome is the last."""
    with tempfile.TemporaryDirectory() as folder:
        answers = {f: Path(folder) / f"{place}.json" for place, f in enumerate(found) if not f.reason}
        ended = _run_child(answers, timeout) if answers else ""
        outcomes = []
        for plugin in found:
            if plugin not in answers:  # found broken before
                outcomes.append(plugin)
            elif answers[plugin].exists():
                outcomes.append(_outcome(plugin, answers[plugin]))
            else:
                reason = f"{plugin.distribution} {plugin.version}: its import {ended}"
                outcomes.append(attrs.evolve(plugin, status="broken", reason=reason))
                break
        return outcomes


def _outcome(found: InstalledPlugin, answer: Path) -> InstalledPlugin:
    given = json.loads(answer.read_text("utf-8"))
    if given["reason"]:
        return attrs.evolve(found, status="broken", reason=given["reason"])
    return attrs.evolve(found, status="ok", hooks=tuple(given["hooks"]))


def _run_child(answers: Mapping[InstalledPlugin, Path], timeout: float) -> str:
    """Run :func:`_child`; how it ended."""
    wanted = [(attrs.asdict(found), str(answer)) for found, answer in answers.items()]
    # with the path of this process, so that the child finds the same plugins
    code = (
        "import json, sys; given = json.load(sys.stdin); sys.path[:] = given['path']; "
        "from mtl_core.hooks import isolation; isolation._child(given['wanted'])"
    )
    quiet = subprocess.DEVNULL
    try:
        ended = subprocess.run(
            [sys.executable, "-c", code],
            input=json.dumps({"wanted": wanted, "path": sys.path}).encode(),
            # answers travel by files: a plugin may print whatever it likes while it is imported
            stdout=quiet,
            stderr=quiet,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"took longer than {timeout:g} s"
    how = f"signal {-ended.returncode}" if ended.returncode < 0 else f"exit code {ended.returncode}"
    return f"ended the process ({how})"


def _child(wanted: Sequence[tuple[dict[str, Any], str]]) -> None:
    """Import plugins and write each one's outcome to its file, whole or not at all."""
    for fields, answer in wanted:
        # renamed when complete: a process that ends while it writes must not leave half an answer
        part = Path(answer + ".part")
        part.write_text(json.dumps(_imported(InstalledPlugin(**{**fields, "hooks": ()}))), "utf-8")
        part.rename(answer)


def _imported(found: InstalledPlugin) -> dict[str, Any]:
    try:
        return {"reason": "", "hooks": hooks_of(load(found))}
    except ContractError as error:
        return {"reason": str(error), "hooks": ()}
