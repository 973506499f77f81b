"""Module and optimizer of a session on their device: memory format, fixed batch norm, the average."""

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
from mtl_core.testing.toys import ToyData, ToyLabels, ToyNetwork
from mtl_core.training.fabric import make_fabric
from mtl_core.training.session import prepare
from mtl_core.training.wrapped import Wrapped, wrap


@plugin
class Shaper:
    """Weights of 1."""

    @hookimpl
    def shape_encoder_gradient(self, gradients: EncoderGradients) -> Tensor:
        return torch.ones_like(gradients.norms)


def wrapped(*plugins: object, **settings: Any) -> Wrapped:
    parts = [ToyData(), ToyLabels(), ToyNetwork(), *plugins]
    made = Experiment(name="t", plugins=parts, device="cpu", **settings)
    session = prepare(made)
    session.network.backbone.append(nn.BatchNorm2d(8))  # type: ignore[operator]
    return wrap(session, make_fabric(made))


def test_fabric_wraps_the_step_whose_parameters_the_optimizer_has() -> None:
    found = wrapped()
    assert found.module.module is found.step
    ours = {id(p) for group in found.raw_optimizer.param_groups for p in group["params"]}
    assert ours == {id(p) for p in found.step.parameters()}
    assert found.group is None, "one process needs no process group"


@pytest.mark.parametrize("ema", [None, 0.9])
def test_what_is_evaluated_is_the_network_or_its_average(ema: float | None) -> None:
    found = wrapped(ema=ema)
    assert (found.evaluated is found.step.network) is (ema is None)


@pytest.mark.parametrize("channels_last", [False, True])
def test_memory_format(channels_last: bool) -> None:
    kernels = [p for p in wrapped(channels_last=channels_last).step.parameters() if p.ndim == 4 and p.shape[1] > 1]
    assert all(p.is_contiguous(memory_format=torch.channels_last) is channels_last for p in kernels if p.shape[-1] > 1)


@pytest.mark.parametrize("batch_norm", ["running", "frozen"])
def test_frozen_batch_norm_stays_in_evaluation_mode(batch_norm: str) -> None:
    found = wrapped(batch_norm=batch_norm)
    found.module.train()
    layer = found.step.network.backbone[-1]  # type: ignore[index]
    assert layer.training is (batch_norm == "running")


def test_a_compiled_encoder_and_the_level_of_parameters_exclude_each_other() -> None:
    with pytest.raises(MtlError, match='level = "parameters" goes through the encoder once per task'):
        wrapped(Shaper(), level="parameters", compile=True)
