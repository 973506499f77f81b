"""Optimizers by name, their options, learning rates by parts, schedules by steps, warm-up."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mtl_core.errors import ExperimentError, MtlError
from mtl_core.experiment import Experiment
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.options.torch_optimizers import _option_names, _usable
from mtl_core.run_folder import RunFolder
from mtl_core.settings.toml_file import dump_experiment, parse_toml
from mtl_core.step.step import Step
from mtl_core.testing.toys import ToyData, ToyLabels, ToyNetwork
from mtl_core.training.fabric import make_fabric
from mtl_core.training.session import prepare
from mtl_core.training.trainer import Trainer


@plugin
class Spoil:
    """Makes the loss of some micro-batches NaN."""

    at: tuple[int, ...] = ()

    @hookimpl
    def setup(self) -> None:
        self.calls = 0

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor]:
        self.calls += 1
        factor = math.nan if self.calls - 1 in self.at else 0.0
        return {"spoilt": factor * step.predictions["depth"].sum()}


class Stopped(Exception):
    """Stands for a kill."""


def experiment(*plugins: object, **settings: Any) -> Experiment:
    options: dict[str, Any] = {
        "epochs": 2,
        "validation": 0.0,
        "device": "cpu",
        "batch_size": 2,
        "learning_rate": 0.01,
    } | settings
    return Experiment(name="t", plugins=[ToyData(size=(8, 8)), ToyLabels(), ToyNetwork(), *plugins], **options)


def trainer(folder: Path, *plugins: object, **settings: Any) -> Trainer:
    made = experiment(*plugins, **settings)
    folder.mkdir(exist_ok=True)
    return Trainer(prepare(made, RunFolder(folder)), make_fabric(made), RunFolder(folder))


def weights(t: Trainer) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in t.step.named_parameters()}


def flat(state: Any) -> list[Any]:
    if isinstance(state, dict):
        return [part for key in sorted(state, key=str) for part in [str(key), *flat(state[key])]]
    if isinstance(state, list | tuple):
        return [part for value in state for part in flat(value)]
    return [state.tolist()] if isinstance(state, Tensor) else [state]


def stopped_and_resumed(folder: Path, *plugins: object, **settings: Any) -> Trainer:
    """A run of two epochs that is killed in the second one."""

    def kill(epoch: int, batch: int, batches: int) -> None:
        if (epoch, batch) == (1, 2):
            raise Stopped

    first = trainer(folder, *plugins, checkpoint_steps=1, **settings)
    with pytest.raises(Stopped):
        first.fit(kill)
    again = trainer(folder, *plugins, checkpoint_steps=1, **settings)
    again.resume()
    assert again.position.epoch == 1
    again.fit()
    return again


@pytest.mark.parametrize("name", [name for name in _usable() if name != "Muon"])
def test_every_optimizer_trains(name: str, tmp_path: Path) -> None:
    t = trainer(tmp_path, epochs=1, batch_size=8, optimizer=f"torch.optim.{name}")
    before = weights(t)
    t.fit()
    assert any(not torch.equal(before[n], now) for n, now in weights(t).items())


@pytest.mark.parametrize("name", ["torch.optim.NAdam", "torch.optim.Adafactor"])
def test_other_optimizers_resume_bit_for_bit(name: str, tmp_path: Path) -> None:
    whole = trainer(tmp_path / "a", checkpoint_steps=1, optimizer=name)
    whole.fit()
    again = stopped_and_resumed(tmp_path / "b", optimizer=name)
    # what depends on the clock and on the folder is no part of the state
    assert flat(again.state()) == flat(whole.state())


def test_an_optimizer_that_refuses_the_network_is_one_message(tmp_path: Path) -> None:
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no optimizer that takes matrices only")
    with pytest.raises(MtlError, match=r"optimizer: torch refuses torch\.optim\.Muon: "):
        trainer(tmp_path, optimizer="torch.optim.Muon")


@pytest.mark.parametrize("name", ["adam", "sgd", "torch.optim.NAdam", "torch.optim.RMSprop"])
def test_a_step_that_is_not_finite_changes_nothing(name: str, tmp_path: Path) -> None:
    """The first of two steps is spoilt: what remains is the run of the second one."""
    t = trainer(tmp_path, Spoil(at=(0, 1, 2, 3)), epochs=1, optimizer=name)
    before = weights(t)
    t.fit()
    assert all(torch.equal(before[n], now) for n, now in weights(t).items())
    state = [v for values in t.raw_optimizer.state.values() for k, v in values.items() if k != "mu_product"]
    assert all(not torch.as_tensor(value).any() for value in state)


def test_options_reach_the_optimizer(tmp_path: Path) -> None:
    t = trainer(tmp_path / "a", optimizer="adam", optimizer_options={"betas": [0.8, 0.9], "amsgrad": True})
    (group,) = t.raw_optimizer.param_groups
    assert (group["betas"], group["amsgrad"], group["fused"]) == ((0.8, 0.9), True, True)
    t = trainer(tmp_path / "b", optimizer="sgd", momentum=0.5, optimizer_options={"nesterov": True})
    assert t.raw_optimizer.param_groups[0]["nesterov"] is True
    assert _option_names("sgd") == ["dampening", "nesterov"]


WRONG: dict[str, dict[str, Any]] = {
    'found "adm"; did you mean "adam"?': {"optimizer": "adm"},
    'there is no torch.optim.NAdamm; did you mean "NAdam"?': {"optimizer": "torch.optim.NAdamm"},
    'found "NAdam"; did you mean "torch.optim.NAdam"?': {"optimizer": "NAdam"},
    "torch.optim.LBFGS calls the loss several times": {"optimizer": "torch.optim.LBFGS"},
    'adam has no option beta; did you mean "betas"?': {"optimizer_options": {"beta": [0.9, 0.99]}},
    "lr is the setting learning_rate": {"optimizer_options": {"lr": 1.0}},
    "sgd has no option amsgrad (known: dampening, nesterov)": {
        "optimizer": "sgd",
        "optimizer_options": {"amsgrad": True},
    },
    "expected factors above 0, found 0 for backbone; freeze": {"rates": {"backbone": 0.0}},
    "must be < 1": {"ema": 1.0},
}


@pytest.mark.parametrize("message", WRONG)
def test_mistakes_in_settings(message: str) -> None:
    with pytest.raises(ExperimentError) as error:
        experiment(**WRONG[message])
    (found,) = error.value.problems
    assert message in found


def test_values_that_torch_refuses_are_one_message(tmp_path: Path) -> None:
    with pytest.raises(MtlError, match=r"torch refuses adam with betas = \[2.0, 0.9\]: Invalid beta"):
        trainer(tmp_path, optimizer_options={"betas": [2.0, 0.9]})


def test_the_file_holds_tables_of_settings() -> None:
    made = experiment(optimizer_options={"betas": [0.8, 0.9]}, rates={"heads.depth": 2.0}, ema=0.9)
    document = parse_toml(dump_experiment(made), "x")
    assert document["optimizer_options"] == {"betas": [0.8, 0.9]}
    assert document["rates"] == {"heads.depth": 2.0}


def test_parts_have_rates_of_their_own(tmp_path: Path) -> None:
    rates = {"backbone": 0.1, "heads": 2.0, "heads.depth": 3.0}
    t = trainer(tmp_path, rates=rates, optimizer="sgd", learning_rate=0.1, epochs=1, batch_size=8)
    found = {id(p): group["lr"] for group in t.raw_optimizer.param_groups for p in group["params"]}
    before = weights(t)
    t.fit()
    for name, parameter in t.step.named_parameters():
        factor = next(f for part, f in reversed(rates.items()) if name.startswith(f"network.{part}."))
        assert found[id(parameter)] == pytest.approx(0.1 * factor)
    plain = trainer(tmp_path / "plain", optimizer="sgd", learning_rate=0.1, epochs=1, batch_size=8)
    plain.fit()
    moved, base = weights(t), weights(plain)
    # one step of SGD: the way is the gradient times the rate
    for name in ("network.backbone.0.weight", "network.heads.depth.weight", "network.heads.normals.weight"):
        factor = next(f for part, f in reversed(rates.items()) if name.startswith(f"network.{part}."))
        assert torch.allclose(moved[name] - before[name], factor * (base[name] - before[name]), rtol=1e-3, atol=1e-6)


def test_a_part_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(MtlError, match=r'begins with "heads.dept"; did you mean "heads.depth"\?'):
        trainer(tmp_path, rates={"heads.dept": 2.0})
    with pytest.raises(MtlError, match=r'begins with "encoder" \(there are: backbone, heads\)'):
        trainer(tmp_path, rates={"encoder": 2.0})


@pytest.mark.parametrize(
    "settings",
    [
        {"warmup": 7, "schedule": "cosine", "schedule_by": "step"},
        {"warmup": 3, "rates": {"heads": 3.0}},
        {"ema": 0.9, "optimizer": "sgd", "momentum": 0.9},
        {"ema": 0.9, "accumulate": 2, "validation": 0.25, "patience": 5},
    ],
    ids=str,
)
def test_a_resumed_run_ends_as_one_that_was_not_stopped(settings: dict[str, Any], tmp_path: Path) -> None:
    whole = trainer(tmp_path / "a", checkpoint_steps=1, **settings)
    whole.fit()
    again = stopped_and_resumed(tmp_path / "b", **settings)
    assert flat(again.state()) == flat(whole.state())
