"""``mtl evaluate --set`` with an option that lives in a task: applied, or refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mtl_core.testing import command
from mtl_core.testing.distributions import Install

SOURCE = """
from pathlib import Path

from mtl_core import BinaryEdges, DataError, Depth, Regression, Sample, Tasks, hookimpl, plugin
from mtl_core.testing.toys import Shapes

class One(Shapes):
    def __init__(self, split, task):
        super().__init__(4, (16, 16), split)
        self.tasks = Tasks([task])

    def __getitem__(self, index):
        sample = super().__getitem__(index)
        label = sample.targets["depth"].expand(self.tasks[0].channels, -1, -1)
        return Sample(sample.image, {self.tasks[0].name: label})

@plugin
class Data:
    \"""Depth whose option decides how it is scored.\"""
    clamp: float | None = None
    channels: int = 1
    kind: str = "depth"
    root: str = ""

    @hookimpl
    def build_dataset(self, split):
        if self.root:
            # an option of the task that follows from the data, not from an option
            return One(split, Depth(name="depth", clamp=float(Path(self.root).read_text())))
        if self.kind != "depth" or self.channels != 1:
            return One(split, Regression(name="depth", channels=self.channels))
        return One(split, Depth(name="depth", clamp=self.clamp))
"""

EXPERIMENT = """
name = "x"
epochs = 1
batch_size = 2
validation = 0.0
device = "cpu"
[plugins.data]
{root}
[plugins.labels]
[plugins.network]
"""
TOYS = "from mtl_core.testing.toys import ToyLabels, ToyNetwork\n"


@pytest.fixture
def file(tmp_path: Path, install: Install) -> Path:
    parts = {"data": "Data", "labels": "ToyLabels", "network": "ToyNetwork"}
    install("mtl-fake", {name: f"fake_tasks:{cls}" for name, cls in parts.items()}, TOYS + SOURCE)
    return tmp_path / "x.toml"


def evaluated(run: Path, capsys: pytest.CaptureFixture[str], *overrides: str) -> dict[str, float]:
    capsys.readouterr()
    options = [part for override in overrides for part in ("--set", override)]
    assert command("evaluate", str(run), "--json", *options) == 0
    found: dict[str, float] = json.loads(capsys.readouterr().out)["metrics"]
    return found


def test_an_option_of_a_metric_is_applied(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(EXPERIMENT.format(root=""))
    run = file.parent / "run"
    assert command("train", str(file), "--out", str(run), "--quiet") == 0
    plain = evaluated(run, capsys)
    clamped = evaluated(run, capsys, "plugins.data.clamp=100")
    # every prediction is lifted to 100, labels are 1 to 2
    assert clamped["depth/abs_err"] > 97 > plain["depth/abs_err"]
    assert evaluated(run, capsys) == plain
    assert json.loads((run / "results.json").read_text())["metrics"] == plain


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("plugins.data.kind=other", "task depth: it is Depth, and with these options Regression"),
        ("plugins.data.channels=2", "task depth: it is Depth, and with these options Regression"),
    ],
)
def test_an_option_that_the_head_cannot_follow_is_refused(
    file: Path, override: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(EXPERIMENT.format(root=""))
    run = file.parent / "run"
    assert command("train", str(file), "--out", str(run), "--quiet") == 0
    capsys.readouterr()
    assert command("evaluate", str(run), "--set", override) == 2
    shown = capsys.readouterr().err
    assert reason in shown
    assert override in shown
    assert "Traceback" not in shown


def test_the_number_of_channels_is_a_heads(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(EXPERIMENT.format(root='kind = "other"'))
    run = file.parent / "run"
    assert command("train", str(file), "--out", str(run), "--quiet") == 0
    capsys.readouterr()
    assert command("evaluate", str(run), "--set", "plugins.data.channels=2") == 2
    assert "task depth: it has channels 1, and with these options 2" in capsys.readouterr().err


def test_what_follows_from_the_data_stays_as_it_was_trained(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Data that lie elsewhere, or are others, do not change what a prediction means."""
    first, other = file.parent / "first.txt", file.parent / "other.txt"
    first.write_text("0")
    other.write_text("100")
    file.write_text(EXPERIMENT.format(root=f'root = "{first}"'))
    run = file.parent / "run"
    assert command("train", str(file), "--out", str(run), "--quiet") == 0
    assert evaluated(run, capsys, f"plugins.data.root={other}") == evaluated(run, capsys)
