"""Import plugins in processes of their own: whatever one does there, it harms nothing else. Imports no torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs

from mtl_core.discovery import Found, hooks_of, load
from mtl_core.errors import ContractError


def check(found: Found, timeout: float = 120.0) -> Found:
    """Import a plugin in a process of its own and say how it went; nothing that it does harms this one.

    :param timeout: seconds until it counts as broken
    :return: the plugin with status ``ok`` and its hooks, or ``broken`` with the reason
    """
    if found.reason:
        return found
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        reason = run_child(found, answer, timeout)
        given = json.loads(answer.read_text("utf-8")) if answer.exists() else {"reason": reason}
    if given["reason"]:
        return attrs.evolve(found, status="broken", reason=given["reason"])
    return attrs.evolve(found, status="ok", hooks=tuple(given["hooks"]))


def run_child(found: Found, answer: Path, timeout: float) -> str:
    """Run :func:`child`; what to say if it leaves no answer."""
    task = json.dumps({"found": attrs.asdict(found), "path": sys.path, "answer": str(answer)})
    code = "import json, sys; t = json.load(sys.stdin); sys.path[:] = t['path']; from mtl_core import checking as c"
    quiet = subprocess.DEVNULL
    try:
        ended = subprocess.run(
            [sys.executable, "-c", f"{code}; c.child(t)"],
            input=task.encode(),
            stdout=quiet,
            stderr=quiet,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"{found.distribution} {found.version}: its import took longer than {timeout:g} s"
    how = f"signal {-ended.returncode}" if ended.returncode < 0 else f"exit code {ended.returncode}"
    return f"{found.distribution} {found.version}: its import ended the process ({how})"


def child(task: dict[str, Any]) -> None:
    """Import one plugin and write the outcome to a file, whole or not at all."""
    found = Found(**{**task["found"], "hooks": ()})
    try:
        outcome = {"reason": "", "hooks": hooks_of(load(found))}
    except ContractError as error:
        outcome = {"reason": str(error), "hooks": ()}
    part = Path(task["answer"] + ".part")
    part.write_text(json.dumps(outcome), "utf-8")
    part.rename(task["answer"])


def check_all(found: Sequence[Found], timeout: float = 120.0) -> list[Found]:
    """:func:`check` every plugin, as many at a time as there are cores."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda f: check(f, timeout), found))
