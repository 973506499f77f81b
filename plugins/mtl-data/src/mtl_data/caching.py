"""Decoded samples kept, so that each is read from its files once.

Shape letters: N samples, K tasks.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import torch
from filelock import FileLock

from mtl_core import MultiTaskDataset, Sample, read_sample
from mtl_data.folder import ENDING, GIB, cache_folder, cache_limit, make_room, remove, remove_forgotten
from mtl_data.records import Layout, layout_of
from mtl_data.store import FORMAT, LEFT, DiskFull, Replaced, Store, make_store, store_size

_log = logging.getLogger(__name__)

_PATIENCE = 60
"""Seconds that a process waits for another one that makes a cache."""


def cached(
    dataset: MultiTaskDataset, files: Sequence[Path], settings: Mapping[str, object], keep: bool = True
) -> MultiTaskDataset:
    """A data set whose samples are decoded once and kept in a memory-mapped file, for all workers and later runs.

    The file lies in ``MTL_CACHE`` or ``~/.cache/mtl`` and is filled as samples are asked for. It is of one state of
    the data: when size or time of change of a file, the settings or the code of the data set's package change, a
    new file is created, and the old one of the same files and settings is removed. Nothing is lost in it: uint8 images,
    the smallest type for classes, 16 bits for floats that are whole numbers over 255, 256, 512, 1000 or 65535, the rest
    as it is. Where a sample cannot be kept (another size, a full disk, no folder) it is read from its files every time,
    and a warning says so. A label that a sample lacks stays missing.

    Labels that nobody wanted are not read: a data set with ``sample_with(index, tasks)`` is asked for those that are
    wanted, and a run that wants others of the same sample adds them to it. A data set without it is asked once for all.

    :param dataset: read and resized samples, all of one size, without random parts
    :param files: what the samples are read from; of millions rather an index and the folders
    :param settings: whatever else decides what a sample is, such as its size and tasks
    :param keep: False gives the data set as it is
    """
    return _Cached(dataset, files, settings) if keep else dataset


@attrs.frozen
class _Key:
    """What a cache is of.

    :param name: the data set's class
    :param identity: of class, settings, tasks and names of the files
    :param content: also of the files' sizes and times of change, of N, and the code that reads
    """

    name: str
    identity: str
    content: str

    @property
    def file(self) -> str:
        return f"{self.name}-{self.identity}-{self.content}{ENDING}"

    @property
    def pattern(self) -> str:
        """All states of the same data."""
        return f"{self.name}-{self.identity}-*{ENDING}"


def _key_of(dataset: MultiTaskDataset, files: Iterable[Path], settings: Mapping[str, object]) -> _Key:
    kind = type(dataset)
    tasks = [(task.name, task.channels) for task in dataset.tasks]
    about = [FORMAT, kind.__module__, kind.__qualname__, settings, tasks]
    described = json.dumps(about, sort_keys=True, default=str)
    identity = hashlib.sha256(described.encode())
    content = hashlib.sha256(described.encode())
    for path in files:
        name = f"{_real_folder(path.parent)}/{path.name}\n".encode()
        identity.update(name)
        content.update(name + _state(path))
    content.update(f"{len(dataset)} {_code(kind.__module__)} {_code(__name__)}".encode())
    return _Key(kind.__name__.lower(), identity.hexdigest()[:16], content.hexdigest()[:16])


@functools.lru_cache(maxsize=4096)
def _real_folder(folder: Path) -> str:
    return os.path.realpath(folder)


def _state(path: Path) -> bytes:
    """Size and time of change; a missing file is a state too, and is reported where it is read."""
    try:
        about = path.stat()
    except OSError:
        return b"missing\n"
    return f"{about.st_size} {about.st_mtime_ns}\n".encode()


@functools.lru_cache(maxsize=64)
def _code(module: str) -> str:
    """A digest of a module's package: a reader that was changed may read other values."""
    found = hashlib.sha256()
    package = sys.modules.get(module.partition(".")[0])
    folders = [Path(folder) for folder in getattr(package, "__path__", ())]
    for path in sorted(path for folder in folders for path in folder.rglob("*.py")):
        found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()


class _Cached:
    """Samples of another data set, from its cache where they are there.

    :param dataset: the other one
    """

    def __init__(self, dataset: MultiTaskDataset, files: Sequence[Path], settings: Mapping[str, object]) -> None:
        self.dataset = dataset
        self.tasks = dataset.tasks
        self.names = dataset.names
        self.labelled = dataset.labelled
        self.settings = dict(settings)
        self._files: Sequence[Path] = files
        self._key: _Key | None = None
        self._store: Store | None = None
        self._reads = self._writes = True
        self._told = False

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        return self.sample_with(index, self.tasks.names)

    def sample_with(self, index: int, tasks: Collection[str]) -> Sample:
        """A sample with the labels that are wanted."""
        asked = [name for name in self.tasks.names if name in tasks or not self._reads_some]
        store = self._opened_for(index, asked) if 0 <= index < len(self) else None
        if store is None:
            return _chosen(read_sample(self.dataset, index, asked), tasks)
        record = store.get(index)
        known = () if record is None else store.layout.known(record)
        if record is not None and not set(asked).difference(known):
            return store.layout.unpack(record, tasks)
        asked = [name for name in self.tasks.names if name in asked or name in known]
        sample = read_sample(self.dataset, index, asked)
        if self._writes:
            self.put(store, index, sample, asked)
        return _chosen(sample, tasks)

    @property
    def _reads_some(self) -> bool:
        """Whether the data set can leave labels out."""
        return hasattr(self.dataset, "sample_with")

    @property
    def key(self) -> _Key:
        """Found when it is first asked for: the files need not be looked at to know the tasks."""
        if self._key is None:
            self._key = _key_of(self.dataset, self._files, self.settings)
            self._files = ()
        return self._key

    @property
    def store(self) -> Store | None:
        """The file, opened or created; None where there can be none."""
        return self._opened_for(0, self.tasks.names)

    def _opened_for(self, index: int, asked: Collection[str]) -> Store | None:
        """The file, opened, or created for what is asked for; None where there can be none."""
        if self._store is None and self._reads:
            try:
                self._store = self.opened(cache_folder(), index, asked)
            except OSError as error:
                self.stop(f"no samples are kept ({error})")
            self._reads = self._store is not None
        return self._store

    def opened(self, folder: Path, index: int, asked: Collection[str]) -> Store | None:
        path = folder / self.key.file
        found = _existing(path)
        limit = cache_limit()
        if found is None and (samples := self.looked_at(index, asked)):
            found = self._created(path, layout_of(samples, self.tasks), limit, samples[0])
        return found

    def looked_at(self, index: int, asked: Collection[str]) -> list[Sample]:
        """The samples that a layout is made for: where labels can be left out, the one that is asked for.

        Of others, one that cannot be read is left out: its error is for whoever asks for it.
        """
        if self._reads_some:
            return [read_sample(self.dataset, index, asked)]
        samples = []
        for place in _typical(self.dataset):
            with suppress(Exception):
                samples.append(self.dataset[place])
        return samples

    def _created(self, path: Path, layout: Layout, limit: int, sample: Sample) -> Store | None:
        """Create the file, unless another process did in the meantime; older ones are removed.

        :param sample: that it must have room for
        """
        folder = path.parent
        length = len(self)
        fits = min(length, limit // (layout.size + 8))
        if fits < length:
            needed = store_size(length, layout) / GIB
            self.warn(
                f"the cache would take {needed:.3g} GiB and {limit / GIB:.3g} are allowed: {fits} of {length} samples"
                " are kept; MTL_CACHE_LIMIT is the limit in GiB"
            )
        if fits == 0:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=_PATIENCE):
            found = _existing(path)
            if found is None or found.layout.pack(sample) is None:
                if found is not None:  # that another process widened by something else
                    layout = found.layout.widened(sample, self.tasks) or layout
                remove(folder.glob(self.key.pattern))
                remove_forgotten(folder)
                make_room(folder, store_size(fits, layout), limit)
                make_store(path, fits, layout, {"settings": self.settings, "tasks": self.tasks.names})
                found = _existing(path)
        return found

    def put(self, store: Store, index: int, sample: Sample, asked: Collection[str]) -> None:
        """Keep a sample, in a new file where the old one has no room for its values.

        :param asked: tasks whose labels were asked for
        """
        try:
            record = store.layout.pack(sample, asked)
            if record is None:
                self._widen(store, index, sample, asked)
            else:
                store.put(index, record)
        except Replaced:
            self._store = None  # opened again for the next sample
        except DiskFull as error:
            self.stop(
                f"further samples are read from their files in every epoch: on the disk of {store.path.parent} {error},"
                f" and {LEFT / GIB:g} GiB are left for checkpoints; free some room, or set MTL_CACHE to another folder"
            )
        except FileNotFoundError:
            self._writes = False  # another run made room; what this process has mapped, it goes on reading
        except OSError as error:
            self.stop(
                f"further samples are read from their files in every epoch: {store.path}: {error.strerror or error};"
                " free some room, or set MTL_CACHE to another folder"
            )

    def _widen(self, store: Store, index: int, sample: Sample, asked: Collection[str]) -> None:
        """Create the file again, with room for values that the samples looked at did not have."""
        layout = store.layout.widened(sample, self.tasks)
        if layout is None:
            self._misfit(index, sample)
            return
        self._store = self._created(store.path, layout, cache_limit(), sample)
        self._reads = self._store is not None
        record = None if self._store is None else self._store.layout.pack(sample, asked)
        if self._store is not None and record is not None:
            self._store.put(index, record)

    def _misfit(self, index: int, sample: Sample) -> None:
        if not self._told:
            self._told = True
            shapes = ", ".join(f"{name} {tuple(label.shape)}" for name, label in sample.targets.items())
            self.warn(
                f"sample {index} (image {tuple(sample.image.shape)}, {shapes}) is not of the form of the others, and is"
                " read from its files in every epoch, like all such samples"
            )

    def stop(self, message: str) -> None:
        """Keep nothing more, and say why."""
        self._writes = False
        self.warn(message)

    def warn(self, message: str) -> None:
        _log.warning("%s: %s", type(self.dataset).__name__, message)

    def __getstate__(self) -> dict[str, Any]:
        """A process that it is sent to opens the file by itself."""
        return {**self.__dict__, "_key": self.key, "_files": (), "_store": None}


def _existing(path: Path) -> Store | None:
    """The file, if it is there and whole; it counts as used now."""
    try:
        found = Store(path)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    with suppress(OSError):  # a folder that others own
        os.utime(path)
    return found


def _chosen(sample: Sample, tasks: Collection[str]) -> Sample:
    """A sample without the labels of other tasks."""
    return Sample(sample.image, {name: label for name, label in sample.targets.items() if name in tasks})


def _typical(dataset: MultiTaskDataset) -> list[int]:
    """The first sample, one from the middle, the last, and one with each label."""
    size = len(dataset)
    places = dict.fromkeys((0, size // 2, size - 1)) if size else {}
    if dataset.labelled is not None and size:
        places |= dict.fromkeys(_first_rows(dataset.labelled))
    return list(places)


def _first_rows(labelled: torch.Tensor) -> list[int]:
    """The first sample with each label, of a mask (N, K)."""
    rows = labelled.int().argmax(0).tolist()
    return [row for k, row in enumerate(rows) if labelled[row, k]]
