"""The data set with pseudo-tasks: made once, found again, learned from, and never where there are none."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mtl_core import Experiment, MtlError, RunFolder, Tasks, hookimpl, plugin, train
from mtl_core.testing import DatasetContract, Shapes, ToyData, ToyLabels, ToyNetwork, prepare
from mtl_data import read_rgb
from mtl_pseudo import Pseudo
from mtl_pseudo.dataset import Labelling, _fingerprint
from mtl_pseudo.specs import spec_of
from mtl_pseudo.tasks import SoftClassification, TokenLabels
from mtl_pseudo.teachers import _Model, teacher_for

DATA = {"samples": 5, "size": [32, 32]}


def pseudo(*tables: dict[str, Any], data: dict[str, Any] | None = None, **options: Any) -> Pseudo:
    sources = {f"extra{number}": table for number, table in enumerate(tables)}
    return Pseudo(of="toydata", data=DATA if data is None else data, sources=sources, **options)


class TestContract(DatasetContract):
    @pytest.fixture
    def plugin(self, source: dict[str, Any]) -> Pseudo:
        return pseudo(source)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many images each call of a model was given."""
    calls: list[int] = []
    plain = _Model.label

    def label(self: _Model, images: Tensor) -> dict[str, Tensor]:
        calls.append(len(images))
        return plain(self, images)

    monkeypatch.setattr(_Model, "label", label)
    return calls


def test_tasks_stand_behind_the_data_sets(source: dict[str, Any]) -> None:
    made = pseudo(source, source | {"labels": "tokens", "top": 2}).build_dataset("train")
    assert made.tasks.names == ("segmentation", "depth", "normals", "extra0", "extra1")
    assert isinstance(made.tasks["extra0"], SoftClassification)
    assert isinstance(made.tasks["extra1"], TokenLabels)
    sample = made[2]
    plain = Shapes(5, (32, 32), "train")[2]
    assert torch.equal(sample.image, plain.image)
    assert all(torch.equal(sample.targets[name], label) for name, label in plain.targets.items())
    assert sample.targets["extra0"].shape == (7,)
    assert sample.targets["extra0"].sum() == pytest.approx(1, abs=1e-5)
    assert sample.targets["extra1"].shape == (4, 32, 32)
    assert bool(made.tasks["extra1"].valid(sample.targets["extra1"][None]).all())


def test_labels_are_made_once(source: dict[str, Any], counted: list[int]) -> None:
    first = pseudo(source, batch_size=2).build_dataset("train")
    assert counted == []
    first[0]
    assert counted == [2, 2, 1]
    again = pseudo(source, batch_size=3).build_dataset("train")
    assert all(torch.equal(again[i].targets["extra0"], first[i].targets["extra0"]) for i in range(5))
    assert counted == [2, 2, 1]


def test_labelling_goes_on_where_it_was_stopped(
    source: dict[str, Any], counted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = source | {"labels": "tokens"}
    with monkeypatch.context() as patch:
        plain = Labelling.batches

        def stopped(self: Labelling, *arguments: Any) -> Iterator[Any]:
            for number, batch in enumerate(plain(self, *arguments)):
                if number == 2:
                    raise KeyboardInterrupt
                yield batch

        patch.setattr(Labelling, "batches", stopped)
        with pytest.raises(KeyboardInterrupt):
            pseudo(tokens, batch_size=2).build_dataset("train")[0]
    counted.clear()
    found = pseudo(tokens, batch_size=2).build_dataset("train")
    found[0]
    assert counted == [1]
    whole = pseudo(tokens, batch_size=2, folder=str(Path(source["weights"]).parent / "other")).build_dataset("train")
    assert all(torch.equal(found[i].targets["extra0"], whole[i].targets["extra0"]) for i in range(5))


def folders(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "pseudo").iterdir())


def test_other_weights_settings_or_images_are_another_version(
    source: dict[str, Any], cache: Path, tmp_path: Path
) -> None:
    pseudo(source).build_dataset("train")[0]
    (one,) = folders(cache)
    assert one.startswith("extra0-")
    about = json.loads((cache / "pseudo" / one / "about.json").read_text())
    assert about["model"] == "timm:test_resnet"
    state = torch.load(source["weights"], weights_only=True)
    torch.save(
        {key: value * 1.01 if value.is_floating_point() else value for key, value in state.items()}, tmp_path / "b.pth"
    )
    pseudo(source | {"weights": str(tmp_path / "b.pth")}).build_dataset("train")[0]
    pseudo(source | {"size": [48, 48]}).build_dataset("train")[0]
    pseudo(source, data=DATA | {"samples": 6}).build_dataset("train")[0]
    pseudo(source, data=DATA | {"size": [24, 32]}).build_dataset("train")[0]
    assert len(folders(cache)) == 5
    (tmp_path / "c.pth").write_bytes(Path(source["weights"]).read_bytes())
    pseudo(source | {"weights": str(tmp_path / "c.pth")}).build_dataset("train")[0]  # the same bytes elsewhere
    assert len(folders(cache)) == 5


def test_a_data_set_is_known_again_by_its_images() -> None:
    one = _fingerprint(Shapes(20, (8, 8), "train"))
    assert _fingerprint(Shapes(20, (8, 8), "train")) == one
    assert len({one, _fingerprint(Shapes(21, (8, 8), "train")), _fingerprint(Shapes(20, (8, 8), "test"))}) == 3


def test_a_folder_of_ones_own(source: dict[str, Any], tmp_path: Path) -> None:
    pseudo(source, folder=str(tmp_path / "labels")).build_dataset("train")[0]
    (folder,) = (tmp_path / "labels").iterdir()
    assert np.load(folder / "extra0.npy").shape == (5, 7)


def test_the_test_split_has_no_pseudo_labels(source: dict[str, Any], counted: list[int]) -> None:
    made = pseudo(source, source | {"labels": "tokens"}).build_dataset("test")
    assert made.labelled is not None
    assert made.labelled.tolist() == [[True, True, True, False, False]] * 5
    sample = made[0]
    assert all(not bool(made.tasks[name].valid(sample.targets[name][None]).any()) for name in ("extra0", "extra1"))
    assert counted == []
    assert pseudo(source).build_dataset("train").labelled is None


def test_it_travels_to_a_worker_with_its_labels_made(source: dict[str, Any], counted: list[int]) -> None:
    there = pickle.loads(pickle.dumps(pseudo(source).build_dataset("train")))
    assert counted == [5]
    assert there[1].targets["extra0"].sum() == pytest.approx(1, abs=1e-5)
    assert counted == [5]


def test_a_name_that_the_data_set_has(source: dict[str, Any]) -> None:
    made = Pseudo(of="toydata", data=DATA, sources={"depth": source})
    with pytest.raises(
        MtlError, match=r'there are two tasks "depth" \(the data set has: segmentation, depth, normals\)'
    ):
        made.build_dataset("train")


def test_wrong_options_of_the_data_set(source: dict[str, Any]) -> None:
    with pytest.raises(
        MtlError, match=r"plugins\.pseudo\.data: 1 problem\n  plugins\.toydata\.sampels: unknown option"
    ):
        pseudo(source, data={"sampels": 5}).build_dataset("train")
    with pytest.raises(MtlError, match=r"plugins\.toydatta: no plugin of this name is installed"):
        Pseudo(of="toydatta", sources={"a": source}).build_dataset("train")


def test_a_data_set_may_be_pseudo_itself(source: dict[str, Any]) -> None:
    inner = {"of": "toydata", "data": DATA, "sources": {"inner": source}}
    made = Pseudo(of="pseudo", data=inner, sources={"outer": source | {"labels": "tokens"}}).build_dataset("train")
    assert made.tasks.names == ("segmentation", "depth", "normals", "inner", "outer")
    assert made[0].targets["inner"].shape == (7,)


@plugin
class MixedNetwork(ToyNetwork):
    """The toy network, with pooled heads for tasks per image."""

    @hookimpl
    def build_heads(self, backbone: nn.Module, tasks: Tasks) -> nn.ModuleDict:
        heads = {task.name: self.head(task) for task in tasks}
        return nn.ModuleDict(heads)

    def head(self, task: Any) -> nn.Module:
        if task.dense:
            return nn.Conv2d(self.channels, task.channels, 3, padding=1)
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(self.channels, task.channels))


@plugin
class Everything:
    """Every label."""

    @hookimpl
    def make_label_mask(self, size: int, tasks: Tasks) -> Tensor:
        return torch.ones(size, len(tasks), dtype=torch.bool)


def test_a_run_learns_from_them(source: dict[str, Any], counted: list[int], tmp_path: Path) -> None:
    tables = (source, source | {"labels": "tokens", "top": 2})
    plugins = [pseudo(*tables, data=DATA | {"samples": 8}), Everything(), MixedNetwork()]
    made = Experiment(name="e", plugins=plugins, epochs=8, batch_size=2, validation=0.25, learning_rate=1e-2)
    run = train(made, tmp_path / "run")
    first, *_, last = run.history()
    for name in ("extra0", "extra1"):
        assert first[f"train/active/{name}"] == 1
        assert last[f"train/loss/{name}"] < first[f"train/loss/{name}"]
        assert last[f"val/{name}/top1"] >= 0
    assert counted == [8, 8]
    results = json.loads(run.results.read_text())["metrics"]
    assert results["extra0/top1"] is None  # nothing says what is right there
    assert results["depth/abs_err"] > 0


def test_they_are_made_before_a_run(source: dict[str, Any], counted: list[int], tmp_path: Path) -> None:
    made = pseudo(source)
    made.before_run(Experiment(name="e", plugins=[made, Everything(), MixedNetwork()]), tmp_path)
    assert counted == [5]
    session = prepare(Experiment(name="e", plugins=[made, Everything(), MixedNetwork()], batch_size=2))
    assert session.tasks.names[-1] == "extra0"
    assert counted == [5]


@pytest.fixture(scope="module")
def teacher_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    plugins = [ToyData(samples=6, size=(24, 24)), ToyLabels(), ToyNetwork()]
    made = Experiment(name="teacher", plugins=plugins, epochs=1, batch_size=2, validation=0.0)
    return train(made, tmp_path_factory.mktemp("teacher") / "run", evaluate_on=None)


def test_labels_of_a_run_of_ours(teacher_run: RunFolder) -> None:
    made = Pseudo(of="toydata", data=DATA, sources={"own": {"model": f"run:{teacher_run.folder}", "score": 0.0}})
    data = made.build_dataset("train")
    assert data.tasks.names[3:] == ("own_segmentation", "own_depth", "own_normals")
    label = data[1].targets
    assert (label["own_segmentation"].shape, label["own_segmentation"].dtype) == ((32, 32), torch.int64)
    assert 0 <= label["own_segmentation"].min() <= label["own_segmentation"].max() < 4
    assert label["own_depth"].shape == (1, 32, 32)
    torch.testing.assert_close(label["own_normals"].norm(dim=0), torch.ones(32, 32), atol=1e-5, rtol=0)


def test_one_task_of_a_run_and_its_score(teacher_run: RunFolder) -> None:
    table = {"model": f"run:{teacher_run.folder}", "tasks": ["segmentation"], "score": 1.0}
    data = Pseudo(of="toydata", data=DATA, sources={"own": table}).build_dataset("train")
    assert data.tasks.names[3:] == ("own",)
    assert (data[0].targets["own"] == -1).all()
    table["tasks"] = ["segmentatoin"]
    with pytest.raises(MtlError, match=r"the run has no task 'segmentatoin'; did you mean \"segmentation\""):
        Pseudo(of="toydata", data=DATA, sources={"own": table}).build_dataset("train")


def test_no_run_there(tmp_path: Path) -> None:
    with pytest.raises(MtlError, match="not a run folder"):
        Pseudo(of="toydata", data=DATA, sources={"own": {"model": f"run:{tmp_path}"}}).build_dataset("train")


ROOMS = {
    409, 423, 435, 453, 454, 493, 495, 509, 516, 520, 526, 527, 532, 534, 548, 553, 556, 559, 564, 598, 619, 620, 624,
    637, 648, 651, 664, 681, 721, 729, 736, 743, 750, 760, 762, 765, 782, 789, 794, 799, 804, 827, 831, 846, 851, 857,
    859, 860, 861, 865, 868, 876, 894, 896, 904, 905,
}  # fmt: skip
"""Classes of ImageNet that are furniture, fittings or rooms."""


def test_a_real_model_on_real_rooms(real: Path) -> None:
    """ImageNet's classes say furniture of most rooms: order of the channels, size and colours are the model's."""
    weights = real / "weights" / "tf_efficientnet_lite0.pth"
    made = teacher_for(spec_of("imagenet", {"model": "timm:tf_efficientnet_lite0", "weights": str(weights)}))
    files = sorted((real / "nyuv2" / "train" / "image").iterdir())[::66]
    images = torch.stack([read_rgb(path) for path in files]).float() / 255
    made.load(torch.device("cpu"))
    with torch.no_grad():
        best = made.label(images)["imagenet"].argmax(1).tolist()
    assert len(best) == 13
    assert sum(one in ROOMS for one in best) >= 8
