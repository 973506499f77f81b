"""A look at some samples before the first step: what is wrong with a data set is one line, not a crash later.

Shape letters: N samples, K tasks, H and W image size.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from mtl_core.data.sample import MultiTaskDataset, Sample, read_sample
from mtl_core.errors import DataError, nearest
from mtl_core.seeds import generator_for
from mtl_core.tasks.tasks import Tasks

_SLACK = 0.01
"""How far an image may leave 0..1: interpolation and compression overshoot."""


def check_dataset(dataset: MultiTaskDataset, source: str) -> None:
    """Check a data set's attributes.

    :param source: what messages call the data set
    :raises DataError: something is wrong; a line per fault
    """
    _raise(source, _dataset_problems(dataset))


def check_samples(
    dataset: MultiTaskDataset, source: str, seed: int = 0, others: int = 3, labelled: Tensor | None = None
) -> None:
    """Check a data set's attributes, its first sample, the first with each task's label and a few random ones.

    :param source: what messages call the data set
    :param others: how many random samples are read
    :param labelled: the run's label mask, bool (N, K): labels that it withholds are not read; None: the data set's own
    :raises DataError: something is wrong; a line per fault, of the first sample that has one
    """
    check_dataset(dataset, source)
    size: tuple[int, int] | None = None
    valid: dict[str, list[bool]] = {name: [] for name in dataset.tasks.names}
    for index in _chosen(len(dataset), seed, others, labelled):
        row = [True] * len(valid) if labelled is None else labelled[index].tolist()
        wanted = [name for name, known in zip(valid, row, strict=True) if known]
        sample = read_sample(dataset, index, wanted)
        _raise(f"{source}, {_called(dataset, index)}", _sample_problems(dataset, index, sample, wanted))
        found = (int(sample.image.shape[-2]), int(sample.image.shape[-1]))
        size = size or found
        if found != size:
            _raise(
                f"{source}, {_called(dataset, index)}",
                [
                    f"image: found {found[0]} × {found[1]} pixels, expected {size[0]} × {size[1]} as in sample 0;"
                    " resize or crop all images to one size"
                ],
            )
        for task in dataset.tasks:
            if task.name in wanted and _promised(dataset, index, task.name):
                valid[task.name].append(bool(task.valid(sample.targets[task.name][None]).any()))
    _raise(source, [_without_pixels(name, len(found)) for name, found in valid.items() if found and not any(found)])


def _dataset_problems(dataset: MultiTaskDataset) -> list[str]:
    """What is wrong with a data set's length, label mask and names."""
    size = len(dataset)
    tasks = dataset.tasks
    labelled = dataset.labelled
    names = dataset.names
    if size == 0:
        return ["found no sample; look at the data set's folder and split"]
    found = []
    if labelled is not None and not isinstance(labelled, Tensor):
        found.append(f"labelled: found a {type(labelled).__name__}, expected a bool tensor ({size}, {len(tasks)})")
    elif labelled is not None and (labelled.dtype, tuple(labelled.shape)) != (torch.bool, (size, len(tasks))):
        found.append(
            f"labelled: found {labelled.dtype} {tuple(labelled.shape)}, expected torch.bool ({size}, {len(tasks)}):"
            " samples by tasks; convert it with .bool()"
        )
    if names is not None and len(names) != size:
        found.append(f"names: found {len(names)}, expected {size}, one per sample; or give None")
    elif names is not None and len(set(names)) != size:
        found.append("names: found a name twice, expected a name of its own for every sample; add the folder to it")
    return found


def _sample_problems(
    dataset: MultiTaskDataset, index: int, sample: object, wanted: Collection[str] | None = None
) -> list[str]:
    """What is wrong with one sample.

    :param wanted: tasks whose labels must be there if the data set has them; None: all
    """
    if not isinstance(sample, Sample):
        return [f"found a {type(sample).__name__}, expected a Sample; return mtl_core.Sample(image, targets)"]
    found = _image_problems(sample.image)
    if found:
        return found
    size = (int(sample.image.shape[-2]), int(sample.image.shape[-1]))
    for name in sample.targets:
        if name not in dataset.tasks.names:
            known = ", ".join(dataset.tasks.names)
            found.append(f"found a label for {name!r}{nearest(name, dataset.tasks.names)} (the tasks: {known})")
    for task in dataset.tasks:
        promised = (wanted is None or task.name in wanted) and _promised(dataset, index, task.name)
        if task.name in sample.targets:
            label = sample.targets[task.name]
            problems = task.problems(label, size) if promised else task.form_problems(label, size)
            found += [f"{task.name}: {problem}" for problem in problems]
        elif promised:
            found.append(_missing(task.name))
    return found


def _missing(task: str) -> str:
    """The line about a label that the data set promises and does not give."""
    return (
        f"{task}: found no label, expected one; give it, or a data set attribute `labelled` that is False for this"
        " sample and task"
    )


def _image_problems(image: object) -> list[str]:
    """What is wrong with an image."""
    if not isinstance(image, Tensor):
        return [f"image: found a {type(image).__name__}, expected a torch tensor (3, H, W)"]
    shape = tuple(image.shape)
    if len(shape) != 3 or shape[0] != 3:
        remedy = "put the channels first: image.permute(2, 0, 1)" if shape[-1:] == (3,) else "convert it to RGB"
        return [f"image: found shape {shape}, expected (3, H, W); {remedy}"]
    if image.dtype == torch.uint8:
        return []
    if image.dtype != torch.float32:
        return [f"image: found {image.dtype}, expected torch.uint8, or torch.float32 in 0..1; convert it"]
    if not image.isfinite().all():
        return ["image: found values that are not finite, expected 0 to 1; look at the file"]
    low = float(image.min())
    high = float(image.max())
    if low >= -_SLACK and high <= 1 + _SLACK:
        return []
    remedy = "divide by 255" if low >= 0 and high > 2 else "leave out mean and deviation, which the backbone applies"
    return [f"image: found values {low:.3g} to {high:.3g}, expected 0 to 1; {remedy}"]


def _chosen(size: int, seed: int, others: int, labelled: Tensor | None) -> list[int]:
    drawn = torch.randperm(size - 1, generator=generator_for(seed, "check samples"))[:others]
    first = [] if labelled is None else labelled.int().argmax(0).tolist()  # of a task that no sample has: 0
    return sorted({0, *first, *(1 + drawn).tolist()})


def _called(dataset: MultiTaskDataset, index: int) -> str:
    return f"sample {index}" if dataset.names is None else f"sample {index} ({dataset.names[index]})"


def _promised(dataset: MultiTaskDataset, index: int, name: str) -> bool:
    return dataset.labelled is None or bool(dataset.labelled[index, dataset.tasks.position(name)])


def _without_pixels(name: str, samples: int) -> str:
    return (
        f"{name}: found no valid pixel in {samples} labels, expected some; look at the unit and the value for unknown"
        " pixels, or give a data set attribute `labelled` that is False where there is no label"
    )


def _raise(where: str, problems: list[str]) -> None:
    if problems:
        raise DataError("\n".join(f"{where}: {problem}" for problem in problems))


def check_tasks(tasks: Tasks, sample: Sample, row: dict[str, bool], where: str) -> None:
    """The cheap checks of every sample that is read: no label is missing, no class would crash the loss.

    :param row: task → whether it is labelled
    :raises DataError: a label is missing or out of range
    """
    for name, labelled in row.items():
        if labelled and name not in sample.targets:
            _raise(where, [_missing(name)])
        problem = tasks[name].range_problem(sample.targets[name]) if labelled else None
        if problem:
            _raise(where, [f"{name}: {problem}"])
