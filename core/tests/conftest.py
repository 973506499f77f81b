"""Fixtures of core's tests."""

from pathlib import Path

import pytest

from mtl_core.testing.distributions import install, toy, toys

__all__ = ["install", "toy", "toys"]

IDEA = '''
from __future__ import annotations

from attrs import field
from mtl_core import Sample, Step, help, hookimpl, plugin
from torch import Tensor

@plugin
class MyIdea:
    """The mean of the predicted depth."""

    weight: float = field(default=0.5, metadata=help("coefficient"))

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor]:
        return {"mean": self.weight * step.predictions["depth"].square().mean()}

    @hookimpl
    def transform_sample(self, sample: Sample) -> Sample:
        return sample
'''

TOYS = """name = "r"
epochs = 1
batch_size = 2
device = "cpu"
validation = 0.25
[plugins.data]
[plugins.labels]
[plugins.network]
"""


@pytest.fixture
def toy_file(tmp_path: Path, toys: None) -> Path:
    """An experiment that trains in a second, written to ``e.toml``; its plugins are installed."""
    file = tmp_path / "e.toml"
    file.write_text(TOYS)
    return file


@pytest.fixture
def idea_file(tmp_path: Path, toys: None) -> Path:
    """An experiment that trains in a second with a plugin of its own, the class MyIdea in ``my_idea.py`` beside it."""
    folder = tmp_path / "beside"
    folder.mkdir()
    (folder / "my_idea.py").write_text(IDEA)
    (folder / "e.toml").write_text(f'{TOYS}[plugins."./my_idea.py:MyIdea"]\nweight = 2.0\n')
    return folder / "e.toml"
