"""A run whose numbers nobody should use ends with exit code 1 and says why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mtl_core import MtlError, RunFolder
from mtl_core.errors import UnusableRun
from mtl_core.testing import command
from mtl_core.testing.distributions import Install

SOURCE = """
import torch
from torch import nn
from mtl_core import hookimpl, plugin
from mtl_core.testing.toys import ToyData, ToyLabels, ToyNetwork

@plugin
class Broken:
    \"""NaN images after so many steps.\"""
    after: int = 0

    @hookimpl
    def setup(self):
        self.calls = 0

    @hookimpl
    def augment(self, images):
        self.calls += 1
        return images * (float("nan") if self.calls > self.after else 1.0)

@plugin
class BrokenNetwork(ToyNetwork):
    \"""Predicts a NaN wherever it is evaluated.\"""

    @hookimpl
    def build_heads(self, backbone, tasks):
        heads = super().build_heads(backbone, tasks)
        heads["depth"] = nn.Sequential(heads["depth"], Evaluated())
        return heads

class Evaluated(nn.Module):
    def forward(self, x):
        return x if self.training else x * float("nan")
"""

EXPERIMENT = """
name = "broken"
epochs = 2
batch_size = 2
validation = 0.0
device = "cpu"
accumulate = 2
[plugins.data]
[plugins.labels]
[plugins.{network}]
{more}
"""


@pytest.fixture
def experiment(tmp_path: Path, install: Install) -> Path:
    parts = {
        "data": "ToyData", "labels": "ToyLabels", "network": "ToyNetwork", "nan": "BrokenNetwork", "broken": "Broken",
    }  # fmt: skip
    install("mtl-fake", {name: f"fake_unusable:{cls}" for name, cls in parts.items()}, SOURCE)
    return tmp_path / "x.toml"


def trained(file: Path, network: str = "network", more: str = "") -> int:
    file.write_text(EXPERIMENT.format(network=network, more=more))
    return command("train", file, "--out", file.parent / "run", "--quiet")


def results(file: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads(RunFolder(file.parent / "run").results.read_text())
    return found


def test_a_run_that_took_no_step_ends_with_exit_code_1(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trained(experiment, more="[plugins.broken]") == 1
    message = "all of its 4 steps were skipped, their gradients were not finite"
    assert f"run: the run has ended, but its numbers cannot be used: {message}" in capsys.readouterr().err
    assert results(experiment)["problems"] == [message]


def test_metrics_that_are_not_finite_end_with_exit_code_1(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trained(experiment, network="nan") == 1
    message = "test data: depth: the predictions of 8 labelled image(s) are NaN"
    assert message in capsys.readouterr().err
    found = results(experiment)
    assert found["problems"] == [message]
    assert found["metrics"]["depth/rmse"] is None
    assert found["metrics"]["segmentation/miou"] is not None


def test_some_skipped_steps_do_not(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trained(experiment, more="[plugins.broken]\nafter = 2") == 0
    assert "problems" not in results(experiment)
    assert "numbers cannot be used" not in capsys.readouterr().err


def test_it_is_an_error_of_the_python_interface_too() -> None:
    assert issubclass(UnusableRun, MtlError)
    assert UnusableRun("x").exit_code == 1
