"""Step and optimizer as Fabric wraps them: memory format, fixed batch norm, compilation, the average."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtl_core.errors import MtlError
from mtl_core.experiment import Experiment
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.step.encoder_gradients import EncoderGradients
from mtl_core.testing.toys import ToyData, ToyLabels, ToyNetwork, ToyNormedNetwork
from mtl_core.training.fabric import make_fabric
from mtl_core.training.session import prepare
from mtl_core.training.wrapped import Wrapped, wrap


@plugin
class Adds:
    """Adds the branches, at two views of each image."""

    @hookimpl
    def count_views(self) -> int:
        return 2

    @hookimpl
    def shape_encoder_gradient(self, gradients: EncoderGradients) -> Tensor:
        return torch.ones_like(gradients.norms)


def wrapped(*plugins: object, network: object = None, **settings: Any) -> Wrapped:
    parts = [ToyData(size=(8, 8)), ToyLabels(), network or ToyNetwork(), *plugins]
    made = Experiment(name="t", plugins=parts, batch_size=4, device="cpu", **settings)
    return wrap(prepare(made), make_fabric(made))


def test_the_step_is_made_as_the_experiment_says() -> None:
    step = wrapped(Adds(), normalize="task", seed=7, level="parameters").step
    assert (step.normalize, step.seed, step.level, step.views) == ("task", 7, "parameters", 2)


def test_fabrics_modules_hold_the_same_parameters() -> None:
    found = wrapped()
    assert found.module.module is found.step
    assert found.optimizer.optimizer is found.raw_optimizer
    trained = [p for group in found.raw_optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in trained} == {id(p) for p in found.step.parameters()}
    assert found.group is None


def test_compilation_is_refused_where_the_encoder_is_walked_once_per_task() -> None:
    with pytest.raises(MtlError, match=r'level = "parameters".*use compile = false'):
        wrapped(Adds(), compile=True, level="parameters")


@pytest.mark.parametrize("plugins", [(), (Adds(),)])
def test_otherwise_encoder_and_heads_are_compiled_under_their_names(
    plugins: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``level`` matters to a gradient shaper alone."""
    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda module: compiled.append(module))
    level = "features" if plugins else "parameters"
    step = wrapped(*plugins, compile=True, level=level).step
    assert compiled == [step.network.backbone, *step.network.heads.values()]
    assert step.state_dict().keys() == wrapped(*plugins).step.state_dict().keys()


@pytest.mark.parametrize("asked", [True, False])
def test_weights_have_the_memory_format(asked: bool) -> None:
    weight = wrapped(channels_last=asked).step.network.backbone[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last) == asked


@pytest.mark.parametrize("batch_norm", ["frozen", "running"])
def test_frozen_batch_norm_stays_in_evaluation_mode(batch_norm: str) -> None:
    found = wrapped(network=ToyNormedNetwork(), batch_norm=batch_norm)
    found.module.train()
    layer = found.step.network.backbone[1]
    layer(torch.rand(4, 4, 8, 8))
    frozen = batch_norm == "frozen"
    assert layer.training is not frozen
    assert torch.equal(layer.running_mean, torch.zeros(4)) == frozen
    assert torch.equal(layer.running_var, torch.ones(4)) == frozen


def test_the_average_is_evaluated_where_there_is_one() -> None:
    plain = wrapped()
    assert plain.ema is None
    assert plain.evaluated is plain.step.network
    averaged = wrapped(ema=0.9)
    assert averaged.ema is not None
    assert averaged.ema.decay == 0.9
    assert averaged.evaluated is averaged.ema.network
    assert averaged.evaluated is not averaged.step.network
    # no part of the step, whose state the checkpoint holds once
    assert averaged.step.state_dict().keys() == plain.step.state_dict().keys()
