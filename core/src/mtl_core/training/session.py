"""From an experiment to what a run works with: data, tasks, label mask, network, plugins that are set up."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import attrs
import numpy as np
import torch
from torch import Tensor, nn

from mtl_core.data.checks import check_dataset, check_samples
from mtl_core.data.datasets import Aligned, BlankedDataset, Part, Selected, columns, every_label
from mtl_core.data.sample import ExtraData, MultiTaskDataset, image_size
from mtl_core.errors import CheckpointError, MtlError
from mtl_core.experiment import Experiment
from mtl_core.hooks.relay import REQUIRED, Hooks
from mtl_core.run_folder import RunFolder, write_atomically
from mtl_core.seeds import derive, generator_for
from mtl_core.tasks.tasks import Tasks
from mtl_core.training.frozen import check_trained, freeze_parts
from mtl_core.training.loader import split_validation
from mtl_core.training.network import Network
from mtl_core.training.task_options import with_task_options
from mtl_core.training.warm_start import warm_start


@attrs.define(eq=False)
class Model:
    """An experiment's network with its plugins: what evaluation works with."""

    experiment: Experiment
    hooks: Hooks
    network: Network
    image_size: tuple[int, int]

    @property
    def tasks(self) -> Tasks:
        return self.network.tasks


@attrs.define(eq=False)
class Session(Model):
    """What training works with: the network, the data and their label mask."""

    dataset: MultiTaskDataset
    labelled: Tensor
    extras: list[tuple[BlankedDataset, int]] = attrs.field(factory=list)
    """Further training data with its label mask, and how many of its samples are in every batch."""
    given: BlankedDataset = attrs.field(
        default=attrs.Factory(lambda self: BlankedDataset(self.dataset, self.labelled), takes_self=True)
    )
    """The data and their label mask as they were before ``relabel``: what validation on a share of them uses."""
    validation: BlankedDataset | None = None
    """The split that the data have for validation; None where a share of the training data is kept, or nothing."""

    def split(self) -> tuple[list[int], list[int]]:
        """Positions of the samples that train, and of those that are kept for validation.

        None are kept where the data have a split for it.
        """
        share = self.experiment.validation if self.validation is None else 0.0
        return split_validation(len(self.dataset), share, self.experiment.seed)


def open_hooks(experiment: Experiment, required: Sequence[str] = REQUIRED) -> Hooks:
    source = experiment.source or f'experiment "{experiment.name}"'
    return Hooks(experiment.named, experiment.use, required, source=source)


def prepare(experiment: Experiment, run: RunFolder | None = None) -> Session:
    """Build everything, each part seeded by (seed, name): experiments that differ in one plugin start with one network.

    :param run: where the label mask is saved, or read from if it is there already
    """
    hooks = open_hooks(experiment)
    dataset = hooks.build_dataset("train")
    source = f'plugin "{hooks.places["build_dataset"]}", training data'
    check_dataset(dataset, source)
    dataset = with_task_options(experiment, dataset)
    labelled = label_mask(experiment, hooks, dataset, run)
    check_samples(dataset, source, experiment.seed, labelled=labelled)
    size = image_size(dataset)
    # before `relabel`: pseudo-labels train the network, and true labels validate it
    given = BlankedDataset(*chosen_tasks(experiment, dataset, labelled))
    # a copy: a plugin may write into the mask that it is handed
    dataset, labelled = hooks.relabel(dataset, labelled.clone(), None if run is None else run.folder)
    dataset, labelled = chosen_tasks(experiment, dataset, labelled)
    tasks = dataset.tasks
    network = build_network(experiment.seed, hooks, tasks, size)
    # a resumed run takes its weights from its own checkpoint
    if experiment.start_from is not None and not (run is not None and run.checkpoint().is_file()):
        warm_start(network, experiment.start_from, run)
    extras = [_aligned(name, extra, dataset) for name, extra in hooks.build_extra_datasets()]
    # setup comes last: plugins see the network and every label mask of the run
    known = torch.cat([labelled, *(extra.labelled for extra, _ in extras)])
    hooks.setup(
        tasks,
        size,
        network.backbone,
        lambda name: torch.manual_seed(derive(experiment.seed, "plugin", name)),
        known,
        network.heads,
    )
    freeze_parts(network, experiment.freeze)
    check_trained(network, hooks)
    validation = _own_validation(experiment, hooks)
    return Session(experiment, hooks, network, size, dataset, labelled, extras, given, validation)


def _own_validation(experiment: Experiment, hooks: Hooks) -> BlankedDataset | None:
    """The data's own validation split with every label that it has, if the experiment validates at all."""
    if not experiment.validation or "val" not in hooks.splits:
        return None
    dataset = hooks.build_dataset("val")
    check_samples(dataset, f'plugin "{hooks.places["build_dataset"]}", validation data', experiment.seed)
    dataset, labelled = chosen_tasks(experiment, dataset, every_label(dataset))
    return BlankedDataset(dataset, labelled)


def _aligned(name: str, extra: ExtraData, dataset: MultiTaskDataset) -> tuple[BlankedDataset, int]:
    made = Aligned(f'plugin "{name}"', extra, dataset)
    assert made.labelled is not None
    return BlankedDataset(made, made.labelled), extra.per_batch


def chosen_tasks(
    experiment: Experiment, dataset: MultiTaskDataset, labelled: Tensor
) -> tuple[MultiTaskDataset, Tensor]:
    """The tasks to learn; their labels are those that a run of all tasks would draw."""
    for key in ("tasks", "counts_for"):
        dataset.tasks.choose(getattr(experiment, key), key)
    if not experiment.tasks:
        return dataset, labelled
    mask = columns(labelled, dataset.tasks, experiment.tasks)
    assert mask is not None
    return Selected(dataset, experiment.tasks), mask


def held_out(experiment: Experiment, hooks: Hooks, run: RunFolder) -> Part:
    """The share of the training data that a run kept for validation, with the labels that the run was given.

    :raises MtlError: it kept none
    """
    share = 0.0 if "val" in hooks.splits else experiment.validation
    dataset = hooks.build_dataset("train")
    # drawn again from the seed, as training drew it: the run folder does not list the samples
    _, held = split_validation(len(dataset), share, experiment.seed)
    if not held:
        raise MtlError(
            f"{run.folder}: there are no validation data: the data set has no split of this name (it has:"
            f" {', '.join(hooks.splits)}), and the run kept no share of its training data (validation ="
            f" {experiment.validation:g}); evaluate another split, or train with validation above 0"
        )
    return Part(*chosen_tasks(experiment, dataset, load_labels(run.labels, dataset)), held)


def build_network(seed: int, hooks: Hooks, tasks: Tasks, size: tuple[int, int]) -> Network:
    # seeded here, not before the data: a data set that draws numbers does not change the first weights
    torch.manual_seed(derive(seed, "backbone"))
    backbone = hooks.build_backbone(size)
    # a seed of their own: another encoder leaves the heads as they were
    torch.manual_seed(derive(seed, "heads"))
    heads = hooks.build_heads(backbone, tasks, size)
    return Network(backbone, nn.ModuleDict({name: heads[name] for name in tasks.names}), tasks)


def label_mask(experiment: Experiment, hooks: Hooks, dataset: MultiTaskDataset, run: RunFolder | None) -> Tensor:
    """The run's label mask: read if the run has one, else drawn and saved."""
    if run is not None and run.labels.is_file():
        return load_labels(run.labels, dataset)
    if run is not None and run.checkpoint().is_file():
        raise CheckpointError(
            f"{run.labels}: missing, although {run.checkpoint().name} is there; a new mask could differ from it:"
            " put the file back, or start a new run"
        )
    generator = generator_for(experiment.seed, "labels")
    labelled = hooks.make_label_mask(len(dataset), dataset.tasks, generator, dataset.names)
    if dataset.labelled is not None:
        # after the draw, so that a label scenario does not depend on which labels exist
        labelled = labelled & dataset.labelled
    if run is not None:
        _save_labels(run.labels, labelled, dataset.tasks)
    return labelled


def _save_labels(path: Path, labelled: Tensor, tasks: Tasks) -> None:
    def write(part: Path) -> None:
        with part.open("wb") as file:
            np.savez_compressed(file, labelled=labelled.numpy(), tasks=np.array(tasks.names))

    write_atomically(path, write)


def load_labels(path: Path, dataset: MultiTaskDataset) -> Tensor:
    """The label mask of a run, bool (N, K).

    :raises CheckpointError: the file is damaged, or of other data
    """
    expected = (len(dataset), dataset.tasks.names)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
            mask = saved["labelled"]
            names = tuple(str(name) for name in saved["tasks"].tolist())
    except (ValueError, KeyError, OSError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, PermissionError | IsADirectoryError):
            raise
        raise _damaged_labels(path, f"{type(error).__name__}: {error}") from error
    if mask.dtype != np.bool_ or mask.ndim != 2 or mask.shape[1] != len(names):
        raise _damaged_labels(path, f"{mask.dtype} of shape {mask.shape} for {len(names)} tasks")
    if (len(mask), names) != expected:
        raise CheckpointError(
            f"{path}: label mask of {len(mask)} samples and tasks {', '.join(names)}; the data set has"
            f" {expected[0]} samples and tasks {', '.join(expected[1])};"
            " use the data and tasks that the run was started with"
        )
    return torch.from_numpy(mask)


def _damaged_labels(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: cannot be read as a label mask ({reason}); expected the file that `mtl train` wrote;"
        " put it back, or start a new run"
    )
