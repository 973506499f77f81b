"""What lies in a run folder is gone on with, or refused; a second process keeps out."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mtl_core import CheckpointError, DataError, Experiment, RunFolder, Tasks, discovery, hookimpl, plugin, train
from mtl_core.testing import TOY_TASKS, Shapes, ToyData, ToyLabels, ToyNetwork
from mtl_must import MuST, teachers
from mtl_must.checks import check_masks


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toys can be read from a run folder."""
    dist = distribution("mtl-core")
    classes = (ToyData, ToyLabels, ToyNetwork)
    toys = [SimpleNamespace(name=c.__name__.lower(), value=f"{c.__module__}:{c.__name__}", dist=dist) for c in classes]
    monkeypatch.setattr(discovery, "entry_points", lambda group: toys)


def experiment(must: MuST | None = None, labels: object = None, **settings: Any) -> Experiment:
    plugins = [ToyData(samples=12), labels or ToyLabels(), ToyNetwork(), must or MuST()]
    options = {"epochs": 1, "batch_size": 2, "validation": 0.0} | settings
    return Experiment(name="student", plugins=plugins, **options)


def killed(*given: Any, **options: Any) -> None:
    raise KeyboardInterrupt


def killed_at(task: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(teacher: Experiment, *rest: Any, **options: Any) -> Any:
        return killed() if teacher.tasks == (task,) else function(teacher, *rest, **options)

    return call


@pytest.fixture
def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was killed while its second teacher's labels were written."""
    with monkeypatch.context() as patch:
        patch.setattr(teachers, "write_labels", killed_at("depth", teachers.write_labels))
        with pytest.raises(KeyboardInterrupt):
            train(experiment(), tmp_path / "run")
    return tmp_path / "run"


def test_each_step_is_taken_up_where_it_stopped(stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taught: list[str] = []

    def counted(experiment: Experiment, out: Path, **options: Any) -> RunFolder:
        taught.append(experiment.name)
        return train(experiment, out, **options)

    monkeypatch.setattr(teachers, "train", counted)
    train(experiment(), stopped, resume=True)
    assert taught == ["student-teacher-normals"]
    assert RunFolder(stopped).results.is_file()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (experiment(seed=5), r"teachers.segmentation: this teacher .*seed was 0, now 5"),
        (experiment(epochs=2), r"teachers.segmentation: this teacher .*epochs was 1, now 2"),
        (experiment(MuST(teacher_epochs=2)), r"teachers.segmentation: this teacher .*epochs was 1, now 2"),
        (experiment(MuST(confidence=0.99)), r"labels.segmentation.npy: .*\(confidence was 0.5, now 0.99\)"),
        (experiment(MuST(flip_tolerance=0.1)), r"labels.segmentation.npy: .*flip_tolerance was none, now 0.1"),
        (experiment(labels=ToyLabels(never=("depth",))), r"plugins.toylabels.never was \[\], now \['depth'\]"),
    ],
    ids=["seed", "epochs", "teacher_epochs", "confidence", "flip_tolerance", "labels"],
)
def test_what_other_settings_made_is_refused(changed: Experiment, message: str, stopped: Path) -> None:
    with pytest.raises(CheckpointError, match=rf"(?s){message}.*go on with those, or choose another --out"):
        train(changed, stopped, resume=True)
    assert not (stopped / "must" / "teachers" / "normals").exists()


def test_labels_of_a_teacher_that_is_gone_are_refused_too(stopped: Path) -> None:
    (stopped / "must" / "teachers" / "segmentation" / "experiment.toml").unlink()
    with pytest.raises(CheckpointError, match=r"labels.segmentation.npy: .*seed was 0, now 5"):
        train(experiment(seed=5), stopped, resume=True)


def test_settings_that_change_no_teacher_may_differ(stopped: Path) -> None:
    made = experiment(MuST(teacher_epochs=1), epochs=2, workers=1, device="cpu", checkpoint_steps=3)
    for teacher in MuST(teacher_epochs=1).teachers(made, stopped):
        teacher.check()


def test_labels_without_a_record_are_made_anew(stopped: Path) -> None:
    place = stopped / "must" / "labels"
    made = np.load(place / "segmentation.npy")
    np.save(place / "segmentation.npy", np.zeros_like(made))
    record = (place / "segmentation.json").read_text()
    (place / "segmentation.json").unlink()
    MuST().before_run(experiment(), stopped)
    assert np.array_equal(np.load(place / "segmentation.npy"), made)
    assert (place / "segmentation.json").read_text() == record
    assert json.loads(record)["confidence"] == 0.5


def test_a_kill_leaves_no_labels_without_a_record(stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (stopped / "must" / "labels" / "segmentation.json").unlink()
    monkeypatch.setattr(teachers, "write_labels", killed)
    with pytest.raises(KeyboardInterrupt):
        train(experiment(), stopped, resume=True)
    assert not (stopped / "must" / "labels" / "segmentation.npy").exists()


def test_a_teacher_knows_no_label_that_the_student_must_not(stopped: Path) -> None:
    """The settings are the same, and what they draw is not: a file of labels that was edited."""
    given = torch.from_numpy(np.load(stopped / "must" / "teachers" / "depth" / "labels.npz")["labelled"])
    data = Shapes(12, (32, 32), "train")
    place = stopped / "must"
    check_masks(data, given, place)
    check_masks(data, torch.ones_like(given), place)
    given[1, TOY_TASKS.position("depth")] = False
    with pytest.raises(CheckpointError, match=r"teachers.depth: this teacher learned from 1 labels that"):
        check_masks(data, given, place)


@plugin
class Few:
    """One label of depth, every label of the other tasks."""

    @hookimpl
    def make_label_mask(self, size: int, tasks: Tasks) -> Tensor:
        mask = torch.ones(size, len(tasks), dtype=torch.bool)
        mask[1:, tasks.position("depth")] = False
        return mask


def test_too_few_samples_are_told_before_any_teacher_is_trained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r'^teacher of "depth": 1 training samples do not fill one batch of 2'):
        train(experiment(labels=Few()), tmp_path / "run")
    assert not (tmp_path / "run" / "must").exists()


def test_a_teachers_error_names_its_task(tmp_path: Path) -> None:
    (made,) = [t for t in MuST().teachers(experiment(labels=Few()), tmp_path) if t.task == "depth"]
    with pytest.raises(DataError) as caught:
        made.teach()
    assert 'teacher of "depth"' in caught.value.__notes__


def test_a_second_process_trains_no_teacher(tmp_path: Path) -> None:
    with (
        RunFolder(tmp_path).locked(),
        pytest.raises(CheckpointError, match="another process is training in this folder"),
    ):
        train(experiment(), tmp_path, resume=True)
    assert not (tmp_path / "must").exists()


def test_the_folder_is_locked_while_teachers_are_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[bool] = []

    def seen(self: teachers.Teacher) -> None:
        found.append(RunFolder(tmp_path).is_locked())
        killed()

    monkeypatch.setattr(teachers.Teacher, "teach", seen)
    with pytest.raises(KeyboardInterrupt):
        train(experiment(), tmp_path)
    assert found == [True]
    assert not RunFolder(tmp_path).is_locked()
