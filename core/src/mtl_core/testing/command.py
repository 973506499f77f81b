"""The command ``mtl`` in this process, for tests."""

from __future__ import annotations

from mtl_core.cli import main


def command(*arguments: object) -> int:
    """Run ``mtl`` with these arguments: the exit code. What it prints goes where the process prints."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0
