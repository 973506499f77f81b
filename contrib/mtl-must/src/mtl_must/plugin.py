"""MuST as a plugin: what happens before the student's run, and what the student sees."""

from __future__ import annotations

from pathlib import Path

import attrs
from attrs import field
from attrs.validators import ge, gt, le, optional
from torch import Tensor

from mtl_core import About, Experiment, MtlError, MultiTaskDataset, help, hookimpl, open_hooks, plugin
from mtl_must.checks import check_counts, check_launch, check_masks
from mtl_must.pseudo import PseudoLabelled
from mtl_must.teachers import Teacher

_TEACHES = (
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
        teachers = self.teachers(experiment, folder)
        for teacher in teachers:
            teacher.check()
        waiting = [teacher for teacher in teachers if not teacher.done]
        check_counts([teacher.experiment for teacher in waiting])
        for teacher in waiting:
            teacher.teach()

    def teachers(self, experiment: Experiment, folder: Path) -> list[Teacher]:
        names = experiment.tasks or open_hooks(experiment).build_dataset("train").tasks.names
        made = [self.teacher(experiment, task) for task in names]
        place = folder / "must"
        return [Teacher(teacher, place, self.confidence, self.flip_tolerance) for teacher in made]

    def teacher(self, experiment: Experiment, task: str) -> Experiment:
        """The experiment of one teacher: the same data, network and settings, one task, its labelled samples."""
        hooks = open_hooks(experiment)
        kept = {name for hook in _TEACHES for name, _ in hooks.implementations(hook)}
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
        check_masks(dataset, labelled, folder / "must")
        made = PseudoLabelled(dataset, labelled, folder / "must")
        return made, made.known
