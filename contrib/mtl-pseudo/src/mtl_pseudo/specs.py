"""One pseudo-task's table in an experiment: its keys, their types, and what goes together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from mtl_core import nearest

_LIBRARIES = ("torchvision", "timm", "smp", "run")
_KINDS = ("masks", "soft", "tokens")


@attrs.frozen(kw_only=True)
class Spec:
    """Where labels come from.

    :param name: of the task, or the beginning of its name
    :param model: ``"torchvision:NAME"``, ``"timm:NAME"``, ``"smp:ARCHITECTURE:ENCODER"`` or ``"run:FOLDER"``
    :param weights: local file with the model's state dict
    :param labels: ``"masks"``, ``"soft"`` or ``"tokens"``; empty: what the model gives
    :param score: probability below which a pixel gets no class
    :param classes: of the model, where it was trained with other classes than its library's
    :param size: (height, width) that images are brought to for the model; None: its own, or theirs
    :param mean: of RGB in 0..1 that the model was trained with; None: its library's
    :param std: deviation, likewise
    :param top: classes that a token's label keeps
    :param tasks: of the run; empty: all
    :param checkpoint: of the run, last or best
    """

    name: str
    model: str
    weights: str = ""
    labels: str = ""
    score: float = 0.5
    classes: int = 0
    size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    top: int = 5
    tasks: tuple[str, ...] = ()
    checkpoint: str = "last"

    @property
    def library(self) -> str:
        return self.model.partition(":")[0]

    @property
    def of_library(self) -> str:
        """The model's name within its library, or the run's folder."""
        return self.model.partition(":")[2]

    @property
    def file(self) -> Path:
        """What the labels depend on."""
        return Path(self.weights).expanduser()

    def settings(self) -> dict[str, Any]:
        """What decides the labels, but for the weights and the images."""
        left_out = {"name", "weights"}
        found = {key: value for key, value in attrs.asdict(self).items() if key not in left_out}
        return found | ({"model": "run"} if self.library == "run" else {})


_KEYS = tuple(field.name for field in attrs.fields(Spec) if field.name != "name")


def spec_of(name: str, table: Mapping[str, Any]) -> Spec:
    """:raises ValueError: every mistake in the table, a line for each"""
    problems = [
        f"{name}.{key}: unknown{nearest(key, _KEYS)} (known: {', '.join(_KEYS)})" for key in table if key not in _KEYS
    ]
    problems += [f"{name}.{key}: {text}" for key, text in _wrong_types(table)]
    if "model" not in table:
        problems.append(f'{name}.model: missing; expected text such as "torchvision:deeplabv3_resnet50"')
    if not name.isidentifier():
        problems.append(f'"{name}": expected the name of a task: letters, digits and _')
    if problems:
        raise ValueError("; ".join(problems))
    plain: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    made = Spec(name=name, **plain)
    if problems := list(_contradictions(made)):
        raise ValueError("; ".join(f"{name}.{problem}" for problem in problems))
    return made


def _wrong_types(table: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(key, what is wrong with the type of its value)."""
    texts = ("model", "weights", "labels", "checkpoint")
    whole = ("classes", "top")
    wrong = [(key, "text") for key in texts if not isinstance(table.get(key, ""), str)]
    wrong += [(key, "a whole number, at least 1") for key in whole if not _is_whole(table.get(key, 1))]
    if not _is_number(table.get("score", 0.5)) or not 0 <= table.get("score", 0.5) <= 1:
        wrong.append(("score", "a probability, 0 to 1"))
    if "size" in table and not (_is_list(table["size"], 2) and all(map(_is_whole, table["size"]))):
        wrong.append(("size", "[height, width] in pixels"))
    for key in ("mean", "std"):
        if key in table and not (_is_list(table[key], 3) and all(map(_is_number, table[key]))):
            wrong.append((key, "three numbers, of red, green and blue in 0 to 1"))
    if not all(isinstance(name, str) for name in table.get("tasks", ())) or isinstance(table.get("tasks"), str):
        wrong.append(("tasks", "a list of names"))
    return [(key, f"expected {expected}, found {table[key]!r}") for key, expected in wrong]


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_list(value: object, length: int) -> bool:
    return isinstance(value, list | tuple) and len(value) == length


def _contradictions(spec: Spec) -> list[str]:
    found = []
    if spec.library not in _LIBRARIES or not spec.of_library:
        expected = '"torchvision:NAME", "timm:NAME", "smp:ARCHITECTURE:ENCODER" or "run:FOLDER"'
        found.append(f'model: expected {expected}, found "{spec.model}"')
    if spec.labels and spec.labels not in _KINDS:
        found.append(
            f'labels: expected one of {", ".join(_KINDS)}, found "{spec.labels}"{nearest(spec.labels, _KINDS)}'
        )
    if spec.library == "run":
        given = [key for key in ("weights", "labels", "classes", "size") if getattr(spec, key)]
        found += [f"{key}: a run has its own; leave it out" for key in given]
    elif not spec.weights:
        found.append("weights: missing; expected a local file with the model's state dict (nothing is downloaded)")
    if spec.library == "smp" and not spec.classes:
        found.append("classes: missing; expected the number of classes that the model was trained with")
    if spec.labels == "tokens" and spec.library not in ("timm", "run"):
        found.append(f'labels: token labels are made by models of timm, found "{spec.model}"')
    if spec.checkpoint not in ("last", "best"):
        found.append(f'checkpoint: expected last or best, found "{spec.checkpoint}"')
    return found
