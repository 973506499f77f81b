"""What can be known before the teachers are trained, or before the student is.

Shape letters: N training samples, K tasks.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from mtl_core import (
    BatchOrder,
    CheckpointError,
    DataError,
    Experiment,
    MtlError,
    MultiTaskDataset,
    chosen_tasks,
    label_mask,
    load_labels,
    open_hooks,
    split_validation,
)
from mtl_must.pseudo import teacher_run


def check_launch(experiment: Experiment) -> None:
    """Fabric's own launcher starts the program again for every device, in the middle of the teachers."""
    if experiment.devices * experiment.nodes > 1 and not {"LOCAL_RANK", "SLURM_PROCID"} & os.environ.keys():
        raise MtlError(
            "must: several runs follow each other in one program; on several devices start it with torchrun or Slurm"
            f" (torchrun --nproc-per-node {experiment.devices} -m mtl_core.cli train …)"
        )


def check_counts(teachers: Sequence[Experiment]) -> None:
    """Find a teacher without a full batch before those before it are trained.

    :raises DataError: it names the task
    """
    if not teachers:
        return
    hooks = open_hooks(teachers[0])
    dataset = hooks.build_dataset("train")
    mask = label_mask(teachers[0], hooks, dataset, None)  # the same for all: they share data, scenario and seed
    for teacher in teachers:
        _, labelled = chosen_tasks(teacher, dataset, mask)
        try:
            share = 0.0 if "val" in hooks.splits else teacher.validation
            _training_order(teacher, labelled.any(1).tolist(), share)
        except DataError as error:
            raise DataError(f'teacher of "{teacher.tasks[0]}": {error}') from None


def _training_order(experiment: Experiment, labelled: Sequence[bool], validation: float) -> BatchOrder:
    """The order in which a teacher would go through its samples.

    :param validation: share of them that is held out
    :raises DataError: they do not fill one batch
    """
    train, _ = split_validation(len(labelled), validation, experiment.seed)
    world = experiment.devices * experiment.nodes
    return BatchOrder([i for i in train if labelled[i]], experiment.batch_size, experiment.seed, world=world)


def check_masks(dataset: MultiTaskDataset, given: Tensor, place: Path) -> None:
    """Refuse teachers that know what the student must not: a label scenario is more than its settings, such as a file.

    :param given: bool (N, K), labels that the student is given
    :raises CheckpointError: it names the teacher's folder
    """
    for k, task in enumerate(dataset.tasks.names):
        run = teacher_run(place, task)
        taught = load_labels(run.labels, dataset)[:, k] if run.labels.is_file() else given[:, k]
        leaked = int((taught & ~given[:, k]).sum())
        if leaked:
            raise CheckpointError(
                f"{run.folder}: this teacher learned from {leaked} labels that the student is not given;"
                " go on with the label scenario that it had, or choose another --out"
            )
