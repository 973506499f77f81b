"""The official splits and class tables, from ``official.json`` beside this module (which names its sources)."""

from __future__ import annotations

import functools
import json
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

IMAGES = 1449
"""Of the labelled set, both splits together."""


@functools.lru_cache(maxsize=1)
def _facts() -> dict[str, Any]:
    text = resources.files("mtl_nyuv2").joinpath("official.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def names_of(count: int) -> tuple[str, ...]:
    """The names of the 13 or 40 classes."""
    return tuple(_facts()[f"names_{count}"])


def split_numbers(split: str) -> list[int]:
    """Numbers, from 1, of the images of a split in the labelled set."""
    train: list[int] = []
    for part in _facts()["train"].split():
        first, _, last = part.partition("-")
        train += range(int(first), int(last or first) + 1)
    if split == "train":
        return train
    return sorted(set(range(1, IMAGES + 1)) - set(train))


@functools.lru_cache(maxsize=4)
def tables(known: int, count: int) -> NDArray[np.int64]:
    """For each of the data set's numbers, 0 for unlabelled, the number of its class among ``count``, 0 for none."""
    to_40 = _facts()["from_894_to_40"] if known == 894 else list(range(1, 41))
    to_13 = _facts()["from_40_to_13"]
    found = to_40 if count == 40 else [to_13[number - 1] for number in to_40]
    return np.array([0, *found], np.int64)
