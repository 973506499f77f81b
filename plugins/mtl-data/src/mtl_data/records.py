"""How a sample lies in a record of bytes: compact, of one size, without loss.

Shape letters: H and W image size.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from mtl_core import Sample, Task, Tasks

_Array = NDArray[Any]
Bytes = NDArray[np.uint8]

_ALIGNED = 8
"""Records and their parts begin at multiples of this many bytes, so that a record is a whole number of words."""
_IMAGE = "<image>"
"""The image's field; no task is called so."""
_SCALES = (("u1", 255), ("u2", 255), ("u2", 1000), ("u2", 512), ("u2", 256), ("u2", 65535))
"""Floats that a file had as whole numbers: the type that holds the number, and what the file's format divides it by."""


@attrs.frozen
class Field:
    """One tensor of a sample.

    :param name: a task's, or :data:`_IMAGE`
    :param dtype: numpy's name of the tensor's type
    :param shape: of the tensor
    :param kind: numpy's name of the type in the file
    :param scale: for floats that are whole numbers / scale; 0: the value itself
    :param nan: the largest whole number stands for NaN
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    kind: str
    scale: int = 0
    nan: bool = False

    @property
    def size(self) -> int:
        """Bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.kind).itemsize

    def is_of(self, values: _Array) -> bool:
        """Whether values have the tensor's shape and type."""
        return (values.shape, str(values.dtype)) == (self.shape, self.dtype)

    def pack(self, values: _Array) -> _Array | None:
        """The values as they are kept, or None where that would lose something."""
        if not self.is_of(values):
            return None
        if self.kind == self.dtype:
            return values
        kept = self._coded(values) if self.scale else values.astype(self.kind)
        return kept if _same_bits(self.unpack(kept), values) else None

    def _coded(self, values: _Array) -> _Array:
        top = np.iinfo(self.kind).max
        whole = np.rint(values.astype(np.float64) * self.scale)
        missing = np.isnan(whole)
        return np.where(missing, top, np.where(missing, 0, whole).clip(0, top)).astype(self.kind)

    def unpack(self, kept: _Array) -> _Array:
        """The values as they were; the array itself where they are kept as they are."""
        if self.kind == self.dtype:
            return kept
        values = kept.astype(self.dtype)
        if self.scale:
            values /= values.dtype.type(self.scale)
        if self.nan:
            values[kept == np.iinfo(self.kind).max] = np.nan
        return values

    def plain(self) -> Field:
        """The same tensor as it is."""
        return attrs.evolve(self, kind=self.dtype, scale=0, nan=False)


def _same_bits(a: _Array, b: _Array) -> bool:
    """Equal in every bit: −0 is not 0, and NaN is NaN."""
    return np.array_equal(_flat_bytes(a), _flat_bytes(b))


def _field_for(name: str, values: Sequence[_Array], task: Task | None = None) -> Field:
    """The smallest field that holds all of these values exactly.

    :param values: of some samples; those of another shape than the first's are left out
    :param task: of a label
    """
    first = values[0]
    plain = Field(name, str(first.dtype), first.shape, str(first.dtype))
    same = [one for one in values if plain.is_of(one)]
    for kind, scale, nan in _kinds(first.dtype, task):
        field = attrs.evolve(plain, kind=kind, scale=scale, nan=nan)
        if all(field.pack(one) is not None for one in same):
            return field
    return plain


def _kinds(dtype: np.dtype[Any], task: Task | None) -> Iterator[tuple[str, int, bool]]:
    """(type, scale, NaN or not) to try, from small to large."""
    if dtype.kind == "f":
        nan = task is not None and task.ignored != task.ignored
        yield from ((kind, scale, nan) for kind, scale in _SCALES)
    elif dtype.kind == "i" and task is not None:
        # classes are −1 to channels − 1
        yield from ((kind, 0, False) for kind in ("i1", "i2", "i4") if np.iinfo(kind).max >= task.channels - 1)


def _wider(field: Field, values: _Array, task: Task | None) -> Field:
    """The next field after this one that holds values: one that goes through them in this order comes to an end."""
    further = [attrs.evolve(field, kind=kind, scale=scale, nan=nan) for kind, scale, nan in _kinds(values.dtype, task)]
    tried = further.index(field) + 1 if field in further else len(further)
    return next((one for one in further[tried:] if one.pack(values) is not None), field.plain())


_PRESENT, _ABSENT = 1, 2
"""What a record knows of a task's label: it is in the record, or the sample has none; 0: nobody asked for it yet."""


@attrs.frozen
class Layout:
    """Where the parts of a sample lie in its record: field after field, then a byte per task, what is known of it.

    :param fields: the image's first; a task that no sample had a label of has none
    :param tasks: their names
    """

    fields: tuple[Field, ...]
    tasks: tuple[str, ...]
    places: tuple[int, ...] = attrs.field(init=False, eq=False)
    """The first byte of every field, and of what follows them."""

    @places.default
    def _places(self) -> tuple[int, ...]:
        ends = [0]
        for field in self.fields:
            ends.append(ends[-1] + _padded(field.size))
        return tuple(ends)

    @property
    def size(self) -> int:
        """Bytes of a record."""
        return self.places[-1] + _padded(len(self.tasks))

    def pack(self, sample: Sample, asked: Collection[str] | None = None) -> Bytes | None:
        """A record, or None where the sample does not fit: another size or label, or values out of range.

        :param asked: tasks whose labels were asked for; None: all
        """
        tensors = _arrays(sample)
        if tensors.keys() - {field.name for field in self.fields}:
            return None
        record = np.zeros(self.size, np.uint8)
        places = self.places
        for number, field in enumerate(self.fields):
            if field.name not in tensors:
                continue
            kept = field.pack(tensors[field.name])
            if kept is None:
                return None
            record[places[number] : places[number] + field.size] = _flat_bytes(kept)
        for number, task in enumerate(self.tasks, places[-1]):
            if task in tensors:
                record[number] = _PRESENT
            elif asked is None or task in asked:
                record[number] = _ABSENT
        return record

    def known(self, record: Bytes) -> list[str]:
        """Tasks whose labels are in a record, or are known not to be there."""
        return [task for number, task in enumerate(self.tasks, self.places[-1]) if record[number]]

    def unpack(self, record: Bytes, tasks: Collection[str] | None = None) -> Sample:
        """The sample of a record; its tensors may share the record's memory.

        :param tasks: whose labels are wanted; None: all that are there
        """
        wanted = [task for task in self.known(record) if tasks is None or task in tasks]
        states = dict(zip(self.tasks, record[self.places[-1] :], strict=False))
        present = {_IMAGE, *(task for task in wanted if states[task] == _PRESENT)}
        found = dict[str, torch.Tensor]()
        for place, field in zip(self.places, self.fields, strict=False):
            if field.name in present:
                kept = record[place : place + field.size].view(field.kind).reshape(field.shape)
                found[field.name] = torch.from_numpy(field.unpack(kept))
        return Sample(found.pop(_IMAGE), found)

    def widened(self, sample: Sample, tasks: Tasks) -> Layout | None:
        """This layout with room for a sample's values too, or None where the sample is of another form."""
        tensors = _arrays(sample)
        fields = {field.name: field for field in self.fields}
        if tensors.keys() - {_IMAGE, *tasks.names}:
            return None
        for name, values in tensors.items():
            task = None if name == _IMAGE else tasks[name]
            if name not in fields:
                fields[name] = _field_for(name, [values], task)
            if not fields[name].is_of(values):
                return None
            if fields[name].pack(values) is None:
                fields[name] = _wider(fields[name], values, task)
        return Layout(tuple(fields.values()), self.tasks)


def _arrays(sample: Sample) -> Mapping[str, _Array]:
    """A sample's tensors by the names of their fields."""
    return {_IMAGE: sample.image.numpy()} | {name: label.numpy() for name, label in sample.targets.items()}


def _flat_bytes(values: _Array) -> Bytes:
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8)


def _padded(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED


def layout_of(samples: Sequence[Sample], tasks: Tasks) -> Layout:
    """The layout that fits these samples; a task without a label in any of them gets no room."""
    fields = [_field_for(_IMAGE, [sample.image.numpy() for sample in samples])]
    for task in tasks:
        labels = [sample.targets[task.name].numpy() for sample in samples if task.name in sample.targets]
        if labels:
            fields.append(_field_for(task.name, labels, task))
    return Layout(tuple(fields), tuple(tasks.names))
