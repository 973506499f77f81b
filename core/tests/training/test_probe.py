"""A probe against regularizers whose gradient is known, and that it leaves no trace in a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mtl_core.commands.probe import _summary
from mtl_core.commands.train import train
from mtl_core.errors import MtlError
from mtl_core.experiment import Experiment
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.run_folder import RunFolder
from mtl_core.step.step import Step
from mtl_core.testing.toys import ToyData, ToyLabels, ToyNetwork

FACTOR = 3.0


@plugin
class Oracle:
    """Knows the labels that the mask withholds: FACTOR times their losses."""

    sign: float = 1.0

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor]:
        data = ToyData().build_dataset("train")
        samples = [data[place] for place in step.index.tolist()]
        losses = []
        for k, task in enumerate(step.tasks):
            targets = torch.stack([sample.targets[task.name] for sample in samples])
            loss = task.loss(step.predictions[task.name][0], targets)
            losses.append(torch.where(step.labelled[:, k], torch.zeros_like(loss), loss).sum() / len(samples))
        return {"known": self.sign * FACTOR * torch.stack(losses).sum()}


@plugin
class Noise:
    """A random gradient at every depth."""

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor]:
        depth = step.predictions["depth"]
        return {"random": (depth * torch.randn(depth.shape, generator=step.generator)).sum()}


@plugin
class EveryLabel:
    @hookimpl
    def make_label_mask(self, size: int, tasks: Any) -> Tensor:
        return torch.ones(size, len(tasks), dtype=torch.bool)


def experiment(*plugins: object, data: ToyData | None = None, **settings: Any) -> Experiment:
    named = {"data": data or ToyData(), "labels": ToyLabels(), "network": ToyNetwork()}
    return Experiment(
        name="probed",
        plugins=named | {type(p).__name__.lower(): p for p in plugins},
        **({"epochs": 2, "batch_size": 4, "device": "cpu", "validation": 0.0} | settings),
    )


def probed(folder: Path, *plugins: object, **settings: Any) -> dict[str, dict[str, float]]:
    return _summary(train(experiment(*plugins, **settings), folder, probe=2))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_withheld_labels_themselves_agree_wholly(tmp_path: Path, sign: float) -> None:
    found = probed(tmp_path / "run", Oracle(sign=sign))
    for task in ("segmentation", "depth", "normals"):
        for place in ("predictions", "head", "encoder"):
            line = found[f"oracle/known/{task}/{place}"]
            assert line["cosine"] == pytest.approx(sign, abs=1e-5)
            assert line["last ratio"] == pytest.approx(FACTOR, rel=1e-5)


def test_noise_does_not_agree_and_has_no_line_where_it_gives_no_gradient(tmp_path: Path) -> None:
    found = probed(tmp_path / "run", Noise())
    names = {name.rpartition("/")[0] for name in found if name.startswith("noise/")}
    assert names == {"noise/random/depth"}
    assert abs(found["noise/random/depth/predictions"]["cosine"]) < 0.1
    assert found["noise/random/depth/predictions"]["ratio"] > 100


def test_the_labels_that_are_left_are_compared_at_parameters(tmp_path: Path) -> None:
    found = probed(tmp_path / "run")
    assert {name.partition("/")[0] for name in found} == {"labels"}
    assert not any(name.endswith("predictions") for name in found)
    assert -1 <= found["labels/depth/encoder"]["cosine"] <= 1


def without_probe(run: RunFolder) -> list[dict[str, Any]]:
    kept = []
    for record in run.history():
        kept.append({key: value for key, value in record.items() if not key.startswith("probe/") and key != "seconds"})
    return kept


def test_a_run_is_what_it_would_be_without_a_probe(tmp_path: Path) -> None:
    """Also with plugins that draw at random, and a network in which batch norm counts batches."""
    plain = train(experiment(Noise()), tmp_path / "plain")
    watched = train(experiment(Noise()), tmp_path / "watched", probe=1)
    assert without_probe(plain) == without_probe(watched)
    one, two = (torch.load(run.checkpoint(), weights_only=True)["step"] for run in (plain, watched))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_nothing_withheld_is_one_message(tmp_path: Path) -> None:
    plugins = {"data": ToyData(), "labels": EveryLabel(), "network": ToyNetwork()}
    with pytest.raises(MtlError, match="probe: the mask withholds no label that the data have"):
        train(Experiment(name="all", plugins=plugins, epochs=1, batch_size=4, device="cpu"), tmp_path / "run", probe=1)


SEEN: list[list[int]] = []


@plugin
class Sees:
    """Keeps which samples are in a batch."""

    @hookimpl
    def compute_regularizer(self, step: Step) -> None:
        SEEN.append(step.index.tolist())


@pytest.mark.parametrize(("val", "samples"), [(0, 6), (6, 8)])
def test_every_sample_that_trains_is_probed(val: int, samples: int, tmp_path: Path) -> None:
    """Data with a split for validation train on all of the others."""
    SEEN.clear()
    made = experiment(Sees(), data=ToyData(val=val), validation=0.25, epochs=1)
    train(made, tmp_path / "run", probe=9, evaluate_on=None)
    steps = samples // 4
    places = [place for batch in SEEN[steps:] for place in batch]
    assert len(set(places)) == len(places) == samples
