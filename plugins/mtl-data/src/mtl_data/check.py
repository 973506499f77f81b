"""Every sample read once: counts, ranges, broken files, and images that two splits share.

Shape letters: N samples, K tasks.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from mtl_core import DataError, MultiTaskDataset, Sample, Tasks
from mtl_data.sources import Source
from mtl_data.statistics import LabelStatistics, what_is_wrong

_CHUNK = 16
"""Samples that a worker reads before it reports."""
_EXAMPLES = 5
"""Pairs of equal images that a report names."""

Watch = Callable[[int, int, int], object]
"""Called with the number of samples that are read, of how many, and the number of broken files."""


@attrs.define
class Part:
    """What was found in some neighbouring samples.

    :param first: position of the first one
    :param hashes: of each readable image, with its position
    :param sizes: "H × W" → number of images
    :param broken: position and reason of what cannot be read, or is not of the expected form
    """

    first: int
    samples: int = 0
    hashes: list[tuple[int, int]] = attrs.field(factory=list)
    sizes: dict[str, int] = attrs.field(factory=dict)
    labels: dict[str, LabelStatistics] = attrs.field(factory=dict)
    broken: list[tuple[int, str]] = attrs.field(factory=list)

    def to_json(self) -> str:
        return json.dumps(attrs.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Part:
        found = json.loads(text)
        labels = {name: LabelStatistics(**one) for name, one in found.pop("labels").items()}
        hashes, broken = ([tuple(pair) for pair in found.pop(key)] for key in ("hashes", "broken"))
        return cls(**found, hashes=hashes, broken=broken, labels=labels)


class _Reader(Dataset[Part]):
    """Reads the samples of a chunk; what goes wrong there is a finding, not an error."""

    def __init__(self, source: Source, split: str, dataset: MultiTaskDataset) -> None:
        self.source = source
        self.split = split
        self.dataset = dataset
        self.alone: dict[str, MultiTaskDataset | None] = {}

    def __len__(self) -> int:
        return -(-len(self.dataset) // _CHUNK)

    def __getitem__(self, chunk: int) -> Part:
        first = chunk * _CHUNK
        part = Part(first, labels={name: LabelStatistics() for name in self.dataset.tasks.names})
        for index in range(first, min(first + _CHUNK, len(self.dataset))):
            self.look_at(index, part)
        return part

    def look_at(self, index: int, part: Part) -> None:
        part.samples += 1
        try:
            sample = self.dataset[index]
        except Exception as error:  # a reader's own mistake is a finding too
            part.broken += [(index, reason) for reason in self._every_reason(index, _told(error))]
            return
        image = sample.image
        size = (int(image.shape[-2]), int(image.shape[-1]))
        digest = hashlib.blake2b(image.contiguous().numpy().tobytes(), digest_size=8).digest()
        part.hashes.append((index, int.from_bytes(digest, "little")))
        name = f"{size[0]} × {size[1]}"
        part.sizes[name] = part.sizes.get(name, 0) + 1
        self.count(index, sample, size, part)

    def count(self, index: int, sample: Sample, size: tuple[int, int], part: Part) -> None:
        labelled = self.dataset.labelled
        for k, task in enumerate(self.dataset.tasks):
            if labelled is not None and not labelled[index, k]:
                continue
            if task.name not in sample.targets:
                part.broken.append((index, f"{task.name}: no label, although the data set's mask says there is one"))
                continue
            label = sample.targets[task.name]
            if reason := what_is_wrong(task, label, size):
                part.broken.append((index, f"{task.name}: {reason}"))
            else:
                part.labels[task.name].add(LabelStatistics.of(task, label))

    def _every_reason(self, index: int, first: str) -> list[str]:
        """A sample stops at its first broken file; task by task the others are found."""
        reasons = {first: None}
        for name in self.dataset.tasks.names:
            if (alone := self._with_one_task(name)) is None:
                continue
            try:
                alone[index]
            except Exception as error:
                reasons[_told(error)] = None
        return list(reasons)

    def _with_one_task(self, name: str) -> MultiTaskDataset | None:
        """The split with one task, if the plugin can give it and its samples are the same."""
        if name not in self.alone:
            source = self.source.only(name)
            try:
                made = source.build(self.split) if source and len(self.dataset.tasks) > 1 else None
            except DataError:
                made = None
            self.alone[name] = made if made is not None and len(made) == len(self.dataset) else None
        return self.alone[name]


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"


@attrs.define
class Found:
    """What was found in a split.

    :param state: file that keeps it until nothing is broken
    """

    split: str
    tasks: Tasks
    names: Sequence[str]
    state: Path
    earlier: int = 0
    samples: int = 0
    sizes: dict[str, int] = attrs.field(factory=dict)
    labels: dict[str, LabelStatistics] = attrs.field(factory=dict)
    broken: list[tuple[int, str]] = attrs.field(factory=list)
    positions: list[int] = attrs.field(factory=list)
    hashes: list[int] = attrs.field(factory=list)

    def add(self, part: Part) -> None:
        self.samples += part.samples
        for size, count in part.sizes.items():
            self.sizes[size] = self.sizes.get(size, 0) + count
        for name, statistics in part.labels.items():
            self.labels.setdefault(name, LabelStatistics()).add(statistics)
        self.broken += part.broken
        self.positions += [position for position, _ in part.hashes]
        self.hashes += [digest for _, digest in part.hashes]

    def report(self) -> dict[str, Any]:
        labels = {task.name: self.labels.get(task.name, LabelStatistics()).report(task) for task in self.tasks}
        broken = [{"index": i, "name": self.names[i], "reason": reason} for i, reason in sorted(self.broken)]
        return {"samples": self.samples, "sizes": self.sizes, "labels": labels, "broken": broken}


def check_split(
    source: Source, split: str, workers: int, fresh: bool = False, watch: Watch = lambda done, of, broken: None
) -> Found:
    """Read every sample of a split once.

    What was found is written to a file at once: an interrupted check goes on where it stopped. Samples that were broken
    are read again.

    :param workers: processes that read; 0 for this one
    :param fresh: read everything, whatever an earlier check has found
    """
    dataset = source.build(split)
    found = Found(
        split, dataset.tasks, _Names(dataset.names or range(len(dataset))), _state_file(source, split, dataset)
    )
    if fresh:
        found.state.unlink(missing_ok=True)
    done: set[int] = set()
    for part in _earlier(found.state):
        found.add(part)
        done.add(part.first // _CHUNK)
    found.earlier = found.samples
    reader = _Reader(source, split, dataset)
    todo = [chunk for chunk in range(len(reader)) if chunk not in done]
    watch(found.samples, len(dataset), len(found.broken))
    found.state.parent.mkdir(parents=True, exist_ok=True)
    with found.state.open("a", encoding="utf-8") as file:
        for part in DataLoader(reader, batch_size=None, sampler=todo, num_workers=workers, collate_fn=_as_it_is):
            found.add(part)
            file.write(part.to_json() + "\n")
            file.flush()
            watch(found.samples, len(dataset), len(found.broken))
    return found


def _as_it_is(part: Any) -> Any:
    return part


class _Names(Sequence[str]):
    """Names as text, made when they are asked for."""

    def __init__(self, names: Sequence[object]) -> None:
        self._names = names

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, place: Any) -> Any:
        return str(self._names[place])


def _earlier(state: Path) -> list[Part]:
    """What an earlier check found. Its last line may be half-written; samples that were broken may be whole now."""
    if not state.is_file():
        return []
    lines = state.read_text("utf-8").split("\n")[:-1]
    kept = {part.first: part for part in map(Part.from_json, lines)}
    whole = [part for part in kept.values() if not part.broken]
    state.write_text("".join(part.to_json() + "\n" for part in whole), "utf-8")
    return whole


def _state_file(source: Source, split: str, dataset: MultiTaskDataset) -> Path:
    """Where a check of this split, with these options, keeps what it has found."""
    ends = [str(dataset.names[i]) for i in (0, len(dataset) - 1)] if dataset.names and len(dataset) else []
    key = json.dumps([source.name, source.options, split, len(dataset), dataset.tasks.names, ends, _CHUNK], default=str)
    folder = Path(os.environ.get("MTL_CACHE") or Path.home() / ".cache" / "mtl").expanduser()
    return folder / f"check-{source.name}-{split}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.jsonl"


def shared_images(found: Sequence[Found]) -> list[dict[str, Any]]:
    """Equal images in two splits, and within one."""
    rows = [_shared(one, two) for one, two in combinations(found, 2)] + [_repeated(one) for one in found]
    return [row for row in rows if row["images"]]


def _shared(one: Found, two: Found) -> dict[str, Any]:
    a, b = (np.array(part.hashes, np.uint64) for part in (one, two))
    _, first, second = np.intersect1d(a, b, return_indices=True)
    return _row(one, two, first, second, int(np.isin(b, a).sum()))


def _repeated(one: Found) -> dict[str, Any]:
    """Images that come a second time in their split."""
    hashes = np.array(one.hashes, np.uint64)
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    again = np.flatnonzero(first[inverse] != np.arange(len(hashes))) if len(hashes) else np.arange(0)
    return _row(one, one, first[inverse][again] if len(again) else again, again, len(again))


def _row(one: Found, two: Found, first: NDArray[Any], second: NDArray[Any], count: int) -> dict[str, Any]:
    pairs = zip(first[:_EXAMPLES].tolist(), second[:_EXAMPLES].tolist(), strict=True)
    names = [[one.names[one.positions[a]], two.names[two.positions[b]]] for a, b in pairs]
    return {"splits": [one.split, two.split], "images": count, "examples": names}


def processes() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else torch.get_num_threads()
