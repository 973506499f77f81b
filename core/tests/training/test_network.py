"""Encoder and heads: what is compiled, and what stays as it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtl_core.experiment import Experiment
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.run_folder import RunFolder
from mtl_core.tasks.tasks import Tasks
from mtl_core.testing.toys import ToyData, ToyLabels
from mtl_core.training.fabric import make_fabric
from mtl_core.training.session import prepare
from mtl_core.training.trainer import Trainer


class Named(nn.Module):
    """A backbone with batch norm that names its coarsest features."""

    channels = 4

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> Tensor:
        return self.with_deepest(images)[0]

    def with_deepest(self, images: Tensor) -> tuple[Tensor, Tensor]:
        z = self.norm(self.conv(images))
        return z.tanh(), z[:, :, ::4, ::4]


@plugin
class NamedNetwork:
    """It, and heads with batch norm and dropout."""

    @hookimpl
    def build_backbone(self) -> nn.Module:
        return Named()

    @hookimpl
    def build_heads(self, tasks: Tasks) -> nn.ModuleDict:
        return nn.ModuleDict(
            {t.name: nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, t.channels, 1)) for t in tasks}
        )


def trainer(folder: Path, **settings: Any) -> Trainer:
    plugins = [ToyData(size=(8, 8)), ToyLabels(), NamedNetwork()]
    made = Experiment(name="t", plugins=plugins, batch_size=4, device="cpu", **settings)
    return Trainer(prepare(made), make_fabric(made), RunFolder(folder))


@pytest.fixture
def compiled_calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each kind of operation runs in a compiled graph."""
    calls = Counter[str]()
    compile = torch.compile

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        kinds = {type(m).__name__ for m in graph.modules()} | {str(n.target) for n in graph.graph.nodes}

        def run(*values: Tensor) -> Any:
            calls["encoder"] += any("tanh" in kind for kind in kinds)
            calls["graphs"] += 1
            return graph.forward(*values)

        return run

    monkeypatch.setattr(torch, "compile", lambda what, **options: compile(what, backend=backend, **options))
    return calls


@pytest.mark.skipif(torch.__version__.startswith("2.6."), reason="torch 2.6 does not compile its own modules in place")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # dynamo asks for it, and hides the warning
def test_encoder_and_heads_are_compiled_in_training(tmp_path: Path, compiled_calls: Counter[str]) -> None:
    t = trainer(tmp_path, compile=True, validation=0.0, epochs=2)
    t.train_epoch(lambda *_: None)
    steps = t.position.micro_step
    assert steps == 2
    assert compiled_calls["encoder"] == steps
    assert compiled_calls["graphs"] == steps * 4


def test_a_frozen_heads_statistics_do_not_move(tmp_path: Path) -> None:
    t = trainer(tmp_path, freeze=("depth",), epochs=2, learning_rate=1e-2, validation=0.25)
    before = {name: value.clone() for name, value in t.step.network.state_dict().items()}
    t.fit()
    moved = {name for name, value in t.step.network.state_dict().items() if not torch.equal(value, before[name])}
    assert not [name for name in moved if name.startswith("heads.depth")]
    assert {"heads.normals.1.running_mean", "backbone.norm.running_mean", "backbone.conv.weight"} <= moved
