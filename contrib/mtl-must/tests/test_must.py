"""Teachers, confidence, pseudo-labels on disk, and what the student sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mtl_core import (
    CheckpointError,
    Classification,
    Depth,
    Experiment,
    MtlError,
    Normals,
    RunFolder,
    Segmentation,
    train,
)
from mtl_core.testing import TOY_TASKS, Shapes, ToyData, ToyLabels, ToyNetwork, prepare
from mtl_must import MuST, PseudoLabelled, confident
from mtl_must.pseudo import _labelled_by, label_file

SEGMENTATION = Segmentation(name="s", channels=3)
DEPTH = Depth(name="d")
NORMALS = Normals(name="n")


def experiment(epochs: int = 1, **settings: Any) -> Experiment:
    plugins = [ToyData(samples=12), ToyLabels(), ToyNetwork(), MuST(**settings)]
    return Experiment(name="student", plugins=plugins, epochs=epochs, batch_size=2, validation=0.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return train(experiment(confidence=0.3), tmp_path_factory.mktemp("must") / "run")


def test_classes_need_a_probability() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.2], [0.4, 0.35, 0.25]]))[:, :, None, None]
    assert confident(SEGMENTATION, logits, None, 0.45, None).flatten().tolist() == [True, False]
    flat = confident(Classification(name="c", channels=3), logits[..., 0, 0], None, 0.45, None)
    assert flat.tolist() == [[True], [False]]


def test_other_tasks_need_agreement_with_the_mirror_image() -> None:
    """Depth of the mirror image, mirrored back: equal on the left half, two metres off on the right."""
    depth = torch.rand(1, 1, 4, 6) + 1
    mirrored = depth.flip(-1) + torch.tensor([2.0, 2, 2, 0, 0, 0])
    assert confident(DEPTH, depth, mirrored, 0.5, 1.0)[0, 0].tolist() == [[True] * 3 + [False] * 3] * 4
    assert confident(DEPTH, depth, mirrored, 0.5, None).all()


def test_a_mirrored_normal_points_the_other_way() -> None:
    normals = torch.nn.functional.normalize(torch.randn(1, 3, 4, 6, generator=torch.Generator().manual_seed(0)), dim=1)
    turned = normals.flip(-1) * torch.tensor([-1.0, 1, 1])[None, :, None, None]
    assert confident(NORMALS, normals, turned, 0.5, 1e-5).all()
    assert not confident(NORMALS, normals, normals.flip(-1), 0.5, 1e-5).all()


class Constant(nn.Module):
    """A network that predicts the same logits everywhere but in one corner."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        logits = torch.zeros(len(images), 3, 2, 2)
        logits[:, 1, 0, 0] = 5.0
        return {"s": logits}


def test_what_is_not_confident_is_invalid() -> None:
    labels = _labelled_by(SEGMENTATION, Constant(), torch.zeros(2, 3, 2, 2, dtype=torch.uint8), 0.5, None)
    assert labels.tolist() == [[[1, -1], [-1, -1]]] * 2
    assert labels.dtype == torch.long


def test_teachers_learn_one_task_from_its_samples(run: RunFolder) -> None:
    made = MuST(teacher_epochs=3).teacher(experiment(), "depth")
    assert (made.tasks, made.epochs, made.drop_unlabelled, list(made.plugins)) == (
        ("depth",), 3, True, ["toydata", "toylabels", "toynetwork"],
    )  # fmt: skip
    kept = prepare(made).labelled
    student = torch.from_numpy(np.load(run.labels)["labelled"])
    assert torch.equal(kept[:, 0], student[:, TOY_TASKS.position("depth")])
    for task in TOY_TASKS.names:
        assert RunFolder(run.folder / "must" / "teachers" / task).results.is_file()


def test_the_student_gets_its_own_labels_and_the_teachers_for_the_rest(run: RunFolder) -> None:
    data = Shapes(12, (32, 32), "train")
    given = torch.from_numpy(np.load(run.labels)["labelled"])
    seen = PseudoLabelled(data, given, run.folder / "must")
    assert seen.known.all()
    for index in range(12):
        true = data[index]
        found = seen[index]
        for k, name in enumerate(TOY_TASKS.names):
            stored = torch.from_numpy(np.load(label_file(run.folder / "must", name))[index])
            assert torch.equal(found.targets[name], true.targets[name] if given[index, k] else stored)
            assert found.targets[name].dtype == true.targets[name].dtype
            assert found.targets[name].shape == true.targets[name].shape


def test_every_task_is_active_in_every_step(run: RunFolder) -> None:
    assert all(run.history()[0][f"train/active/{name}"] == 1 for name in TOY_TASKS.names)


def test_withheld_labels_are_never_looked_at(run: RunFolder) -> None:
    """True labels of what is withheld are replaced by nonsense; the student's data do not change."""

    class Wrong(Shapes):
        def __getitem__(self, index: int) -> Any:
            sample = super().__getitem__(index)
            for k, name in enumerate(TOY_TASKS.names):
                if not given[index, k]:
                    sample.targets[name] = torch.full_like(sample.targets[name], 99)
            return sample

    given = torch.from_numpy(np.load(run.labels)["labelled"])
    right, wrong = (PseudoLabelled(c(12, (32, 32), "train"), given, run.folder / "must") for c in (Shapes, Wrong))
    for index in range(12):
        for name in TOY_TASKS.names:
            assert torch.equal(right[index].targets[name], wrong[index].targets[name])


def test_validation_uses_true_labels(run: RunFolder) -> None:
    """What a teacher says is learned, and never measured: the labels are those that the student is given."""
    session = prepare(experiment(confidence=0.3), run)
    assert session.labelled.all()
    assert torch.equal(session.given.labelled, torch.from_numpy(np.load(run.labels)["labelled"]))
    true = Shapes(12, (32, 32), "train")
    for index in range(12):
        found = session.given.dataset[index].targets
        assert all(torch.equal(found[name], label) for name, label in true[index].targets.items())


def test_pseudo_labels_of_other_data_are_refused(run: RunFolder) -> None:
    with pytest.raises(CheckpointError, match="pseudo-labels of 12 samples, the data set has 5"):
        PseudoLabelled(Shapes(5, (32, 32), "train"), torch.zeros(5, 3, dtype=torch.bool), run.folder / "must")


def test_several_devices_need_a_launcher(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    made = experiment()
    made.devices = 2
    with pytest.raises(MtlError, match="start it with torchrun or Slurm"):
        MuST().before_run(made, tmp_path)
