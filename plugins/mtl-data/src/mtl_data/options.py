"""Validators of the options that data sets share. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mtl_core import nearest


def known_tasks(data: str, known: Sequence[str]) -> Callable[[object, Any, tuple[str, ...]], None]:
    """A validator of ``tasks``: one task or more, all of them known, none twice.

    :param data: what the data are called in messages
    :param known: their tasks
    """

    def validate(instance: object, attribute: Any, value: tuple[str, ...]) -> None:
        unknown = [task for task in value if task not in known]
        if unknown:
            hint = nearest(unknown[0], known)
            raise ValueError(f"{data} has no task {unknown[0]!r}{hint} (it has: {', '.join(known)})")
        if not value or len(set(value)) < len(value):
            raise ValueError(f"expected at least one task and none twice, found {list(value)}")

    return validate


def positive_size(instance: object, attribute: Any, value: tuple[int, int] | None) -> None:
    """A validator of ``size``: (height, width) in pixels, or None."""
    if value is not None and min(value) < 1:
        raise ValueError(f"expected [height, width] in pixels, found {list(value)}")
