"""Parts that are not trained, and what could not be trained at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mtl_core.errors import MtlError
from mtl_core.experiment import Experiment
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.run_folder import RunFolder
from mtl_core.step.encoder_gradients import EncoderGradients
from mtl_core.testing.toys import ToyData, ToyLabels, ToyNetwork
from mtl_core.training.fabric import make_fabric
from mtl_core.training.session import prepare
from mtl_core.training.trainer import Trainer


@plugin
class Plain:
    """Adds the branches."""

    @hookimpl
    def shape_encoder_gradient(self, gradients: EncoderGradients) -> Tensor:
        return torch.ones_like(gradients.norms)


def experiment(*plugins: object, **settings: Any) -> Experiment:
    options = {"epochs": 1, "validation": 0.25, "device": "cpu", "batch_size": 2, "learning_rate": 0.05} | settings
    return Experiment(name="t", plugins=[ToyData(), ToyLabels(), ToyNetwork(), *plugins], **options)


def fitted(folder: Path, *plugins: object, **settings: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    made = experiment(*plugins, **settings)
    t = Trainer(prepare(made), make_fabric(made), RunFolder(folder))
    before = {n: v.clone() for n, v in t.step.network.state_dict().items()}
    t.fit()
    return before, t.step.network.state_dict()


@pytest.mark.parametrize("part", ["backbone", "backbone.0", "depth", "heads.depth"])
def test_a_frozen_part_stays(part: str, tmp_path: Path) -> None:
    before, after = fitted(tmp_path, freeze=(part,))
    path = "heads.depth" if part == "depth" else part
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert moved == {name for name in before if not name.startswith(f"{path}.")}


def test_parts_that_are_none_and_nothing_left(tmp_path: Path) -> None:
    with pytest.raises(MtlError, match=r'no part of the network "backbon"; did you mean "backbone"\?'):
        fitted(tmp_path, freeze=("backbon",))
    with pytest.raises(MtlError, match="nothing of the network is left to train"):
        fitted(tmp_path, freeze=("backbone", "heads"))
    with pytest.raises(MtlError, match='the whole encoder is frozen, and plugin "plain" works on its gradient'):
        fitted(tmp_path, Plain(), freeze=("backbone",))
