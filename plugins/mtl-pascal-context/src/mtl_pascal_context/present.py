"""Which images have a label at all: those with human parts, and those with a class that has normals.

The archive has a file for every image, and many of them say nothing. Which do is found once, by reading them, and kept
in the user's cache folder.

Shape letters: N images, K tasks.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from mtl_core import Tasks, write_text
from mtl_pascal_context.classes import WITH_NORMALS
from mtl_pascal_context.labels import read_label_map, read_parts
from mtl_pascal_context.tree import Files

_log = logging.getLogger("mtl")

_VERSION = 1
"""Of the rules below: another one makes what is kept void."""


def _has_parts(files: Files) -> bool:
    assert files.parts is not None
    return read_parts(files.parts) is not None


def _has_normals(files: Files) -> bool:
    assert files.label_map is not None
    return bool(np.isin(read_label_map(files.label_map), WITH_NORMALS).any())


_RULES: dict[str, Callable[[Files], bool]] = {"parts": _has_parts, "normals": _has_normals}


def present_labels(files: Sequence[Files], tasks: Tasks) -> Tensor | None:
    """The data set's label mask: bool (N, K); None where every image has every label."""
    asked = [name for name in tasks.names if name in _RULES]
    if not asked:
        return None
    mask = torch.ones(len(files), len(tasks), dtype=torch.bool)
    for name in asked:
        mask[:, tasks.position(name)] = torch.tensor(_kept(name, files))
    return mask


def _kept(task: str, files: Sequence[Files]) -> list[bool]:
    """Whether each image has a task's label: read from the cache folder, or found and kept there."""
    place = _cache_folder() / f"{_fingerprint(task, files)}.json"
    try:
        found = json.loads(place.read_text("utf-8"))
    except (OSError, ValueError):
        found = None
    if isinstance(found, list) and len(found) == len(files):
        return [bool(value) for value in found]
    made = [_RULES[task](one) for one in _progress(files, f"looking for {task}")]
    try:
        write_text(place, json.dumps(made))
    except OSError as error:
        _log.warning("pascal-context: which images have %s is not kept (%s); the next run reads all again", task, error)
    return made


def _cache_folder() -> Path:
    """``$XDG_CACHE_HOME/mtl/pascal-context``, by default in ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "mtl" / "pascal-context"


def _fingerprint(task: str, files: Sequence[Files]) -> str:
    """Changes with every file's place, size and time of change."""
    digest = hashlib.sha256(f"{_VERSION} {task}".encode())
    for one in files:
        path = one.parts if task == "parts" else one.label_map
        assert path is not None
        status = path.stat()
        digest.update(f"{path.resolve()} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:32]


def _progress(files: Sequence[Files], title: str) -> Iterable[Files]:
    """A bar on a terminal, nothing elsewhere."""
    console = Console(stderr=True)
    return track(files, title, console=console, transient=True, disable=not sys.stderr.isatty())
