"""The data's own validation split: what ``best.ckpt`` and ``mtl evaluate --split val`` are judged by."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import field

from mtl_core import Batch, DataError, Experiment, help, hookimpl, plugin
from mtl_core.data.sample import MultiTaskDataset
from mtl_core.errors import ContractError
from mtl_core.run_folder import RunFolder
from mtl_core.testing import main
from mtl_core.testing.toys import Shapes, ToyData, ToyLabels, ToyNetwork
from mtl_core.training.fabric import make_fabric
from mtl_core.training.loaders import open_loaders
from mtl_core.training.session import prepare
from mtl_core.training.trainer import Trainer


@plugin
class ThreeSplits:
    """Toy data with a validation split."""

    val: int = field(default=6, metadata=help("validation samples"))

    @hookimpl
    def name_splits(self) -> tuple[str, ...]:
        return ("train", "val", "test")

    @hookimpl
    def build_dataset(self, split: str) -> MultiTaskDataset:
        return Shapes(self.val if split == "val" else 8, (32, 32), split)


def experiment(data: object, **settings: Any) -> Experiment:
    options: dict[str, Any] = {"epochs": 1, "batch_size": 2, "validation": 0.25, "device": "cpu"} | settings
    return Experiment(name="r", plugins={"data": data, "labels": ToyLabels(), "network": ToyNetwork()}, **options)


def loaders(made: Experiment) -> Any:
    return open_loaders(prepare(made), make_fabric(made))


def images(batches: Any) -> torch.Tensor:
    found: list[Batch] = list(batches)
    return torch.cat([batch.images for batch in found])


def test_the_datas_split_takes_the_place_of_a_share() -> None:
    found = loaders(experiment(ThreeSplits()))
    assert len(found.order.indices) == 8
    expected = torch.stack([Shapes(6, (32, 32), "val")[i].image for i in range(6)])
    assert torch.equal(images(found.validation), expected)
    assert all(batch.labelled.all() for batch in found.validation)


def test_without_such_a_split_a_share_is_kept() -> None:
    found = loaders(experiment(ToyData()))
    assert len(found.order.indices) == 6
    assert len(images(found.validation)) == 2


def test_validation_zero_uses_no_split() -> None:
    assert loaders(experiment(ThreeSplits(), validation=0.0)).validation is None


def test_a_chosen_task_is_the_only_one_that_is_validated() -> None:
    assert prepare(experiment(ThreeSplits(), tasks=("depth",))).validation.dataset.tasks.names == ("depth",)


def test_faults_of_the_split_are_found_before_the_first_step() -> None:
    with pytest.raises(DataError, match=r'plugin "data", validation data: found no sample'):
        prepare(experiment(ThreeSplits(val=0)))


def test_who_looks_ahead_gets_images_of_the_split(tmp_path: Path) -> None:
    made = experiment(ThreeSplits())
    session = prepare(made)
    trainer = Trainer(session, make_fabric(made), RunFolder(tmp_path))
    batch = trainer.data.second.at("validation", 0)
    known = [Shapes(6, (32, 32), "val")[i].image for i in range(6)]
    assert all(any(torch.equal(image, one) for one in known) for image in batch.images)


@plugin
class Misnamed:
    """Names its splits in a way that is none."""

    @hookimpl
    def name_splits(self) -> str:
        return "train"

    @hookimpl
    def build_dataset(self, split: str) -> MultiTaskDataset:
        return Shapes(8, (32, 32), split)


def test_names_must_be_a_list() -> None:
    with pytest.raises(ContractError, match=r'plugin "data": name_splits returned \'train\', expected names of splits'):
        prepare(experiment(Misnamed()))


@pytest.fixture
def installed(install: Callable[..., None]) -> None:
    kinds = {"data": "ToyData", "split": "ThreeSplits", "labels": "ToyLabels", "network": "ToyNetwork"}
    source = f"import sys\nfrom mtl_core.testing.toys import *\nThreeSplits = sys.modules[{__name__!r}].ThreeSplits\n"
    install("mtl-toys", {name: f"fake_toys:{kind}" for name, kind in kinds.items()}, source)


def trained(folder: Path, data: str, validation: float = 0.25) -> RunFolder:
    file = folder / "e.toml"
    file.write_text(
        f'name = "r"\nepochs = 1\nbatch_size = 2\ndevice = "cpu"\nvalidation = {validation}\n'
        f"[plugins.{data}]\n[plugins.labels]\n[plugins.network]\n"
    )
    main_returns(["train", str(file), "--out", str(folder / "run"), "--quiet"])
    return RunFolder(folder / "run")


def main_returns(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code in (0, None)


@pytest.mark.parametrize("data", ["split", "data"])
def test_evaluate_judges_what_the_best_epoch_was_chosen_by(
    data: str, tmp_path: Path, installed: None, caplog: pytest.LogCaptureFixture
) -> None:
    run = trained(tmp_path, data)
    main_returns(["evaluate", str(run.folder), "--split", "val"])
    record = json.loads((run.folder / "results-val-last.json").read_text())
    in_training = {f"val/{name}": value for name, value in record["metrics"].items()}
    assert in_training == pytest.approx({name: run.history()[-1][name] for name in in_training})
    told = [r.getMessage() for r in caplog.records if "no split val" in r.getMessage()]
    share = f"{run.folder}: the data have no split val (they have: train, test); evaluating the 2 training samples"
    assert told == ([] if data == "split" else [f"{share} that the run kept for validation"])


def test_without_validation_data_there_is_one_message(
    tmp_path: Path, installed: None, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(tmp_path, "data", validation=0.0)
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", str(run.folder), "--split", "val"])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "there are no validation data: the data set has no split of this name (it has: train, test)" in line
    assert "train with validation above 0" in line
