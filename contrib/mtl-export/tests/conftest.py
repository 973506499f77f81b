"""Fixtures: a trained run of the toys in ``mtl_core.testing``."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mtl_core import load_experiment, train
from mtl_core.testing.distributions import Install, install

__all__ = ["install", "run"]

TOYS = "from mtl_core.testing import ToyData, ToyLabels, ToyNetwork"

EXPERIMENT = """
name = "toys"
epochs = 1
batch_size = 4
device = "cpu"
validation = 0.5

[plugins.toydata]
[plugins.toylabels]
[plugins.toynetwork]
"""


@pytest.fixture
def run(install: Install, tmp_path: Path) -> Path:
    torch.set_num_threads(1)
    plugins = {name.lower(): f"fake_toys:{name}" for name in ("ToyData", "ToyLabels", "ToyNetwork")}
    install("mtl-toys", plugins, TOYS)
    (tmp_path / "toys.toml").write_text(EXPERIMENT, "utf-8")
    return train(load_experiment(tmp_path / "toys.toml"), tmp_path / "run").folder
