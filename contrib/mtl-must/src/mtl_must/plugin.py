"""MuST as a plugin: what happens before the student's run, and what the student sees."""

from __future__ import annotations

import os
from pathlib import Path

import attrs
from attrs import field
from attrs.validators import ge, gt, le, optional
from torch import Tensor

from mtl_core.data import MultiTaskDataset
from mtl_core.errors import MtlError
from mtl_core.experiment import Experiment
from mtl_core.plugin import About, help, hookimpl, plugin
from mtl_core.run import Run
from mtl_core.runner import train
from mtl_core.session import open_hooks
from mtl_must.pseudo import PseudoLabelled, is_complete, label_file, write_labels

TEACHES = (
    "build_dataset", "make_label_mask", "transform_sample", "augment", "build_backbone", "build_heads",
)  # fmt: skip
"""A teacher keeps the plugins that fill these places: data, labels, augmentation and network."""


@plugin
class MuST:
    """Multi-task self-training: single-task teachers label what has no label, and a student learns from both.

    Ghiasi et al., "Multi-Task Self-Training for Learning General Representations", ICCV 2021. How its confidence rules
    carry over to dense regression is not published: ``flip_tolerance`` is reconstructed.
    """

    about = About(
        formula=(
            "teachers: Eq. 1 with one task on {x : t ∈ T_x}; ỹ^t = decode(ŷ^t_teacher) where confident; student: "
            "Eq. 1 on y and ỹ"
        ),
        source="Ghiasi et al., Multi-Task Self-Training for Learning General Representations, ICCV 2021",
        cost="K single-task runs before the run, a prediction of the training set each; nothing in a step",
        departs=(
            "the confidence of dense regression (flip_tolerance) and the protocol for partial labels are reconstructed"
        ),
    )

    confidence: float = field(
        default=0.5, validator=[ge(0.0), le(1.0)], metadata=help("probability below which a pixel gets no class")
    )
    flip_tolerance: float | None = field(
        default=None,
        validator=optional(gt(0.0)),
        metadata=help("loss between the predictions of an image and its mirror image above which a pixel is left out"),
    )
    teacher_epochs: int | None = field(
        default=None, validator=optional(ge(1)), metadata=help("epochs of each teacher; none: the experiment's")
    )

    @hookimpl
    def before_run(self, experiment: Experiment, folder: Path) -> None:
        check_launch(experiment)
        place = folder / "must"
        names = experiment.tasks or open_hooks(experiment).build_dataset("train").tasks.names
        for task in names:
            if not is_complete(label_file(place, task)):
                teacher, run = self.teacher(experiment, task), Run(place / "teachers" / task)
                if not run.results.is_file():
                    train(teacher, run.folder, resume=True)
                write_labels(teacher, run, place, self.confidence, self.flip_tolerance)

    def teacher(self, experiment: Experiment, task: str) -> Experiment:
        """The experiment of one teacher: the same data, network and settings, one task, its labelled samples."""
        hooks = open_hooks(experiment)
        kept = {name for hook in TEACHES for name, _ in hooks.implementations(hook)}
        settings = {f.name: getattr(experiment, f.name) for f in attrs.fields(Experiment)}
        changed = {
            "name": f"{experiment.name}-teacher-{task}",
            "plugins": {name: p for name, p in experiment.plugins.items() if name in kept},
            "use": {hook: name for hook, name in experiment.use.items() if name in kept},
            "epochs": self.teacher_epochs or experiment.epochs,
            "tasks": (task,), "counts_for": (task,), "freeze": (), "drop_unlabelled": True,
        }  # fmt: skip
        return Experiment(**settings | changed)

    @hookimpl
    def relabel(
        self, dataset: MultiTaskDataset, labelled: Tensor, folder: Path | None
    ) -> tuple[MultiTaskDataset, Tensor]:
        if folder is None:
            raise MtlError("must: pseudo-labels lie in a run's folder; train with a folder (`mtl train --out`)")
        made = PseudoLabelled(dataset, labelled, folder / "must")
        return made, made.known


def check_launch(experiment: Experiment) -> None:
    """Fabric's own launcher starts the program again for every device, in the middle of the teachers."""
    if experiment.devices * experiment.nodes > 1 and not {"LOCAL_RANK", "SLURM_PROCID"} & os.environ.keys():
        raise MtlError(
            "must: several runs follow each other in one program; on several devices start it with torchrun or Slurm"
            f" (torchrun --nproc-per-node {experiment.devices} -m mtl_core.cli train …)"
        )
