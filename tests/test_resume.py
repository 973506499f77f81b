"""Killed at any moment and resumed, a run ends with the same weights and metrics, bit for bit."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from mtl_core import RunFolder
from mtl_core.training.checkpoint import load_checkpoint

EXPERIMENT = """
name = "resume"
epochs = 3
batch_size = 4
learning_rate = 1e-3
schedule = "step"
workers = {workers}
checkpoint_steps = 2
validation = 0.2
precision = "{precision}"

[plugins.scenes]
size = [32, 32]
train = 20
test = 4
[plugins.onelabel]
[plugins.segnet]
width = 4
[plugins.randaugment]
[plugins.geometry]
[plugins.jtr]
[plugins.ial]
primary = "segmentation"
sigma_learning_rate = 1e-2
"""


def start(file: Path, out: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "mtl_core.cli", "train", str(file), "--out", str(out), "--quiet", *options]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})


def finish(file: Path, out: Path, *options: str) -> None:
    assert start(file, out, *options).wait() == 0


def outcome(out: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    history = [{k: v for k, v in record.items() if k != "seconds"} for record in RunFolder(out).history()]
    return history, load_checkpoint(out / "last.ckpt")


def nans(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.equal(a.isnan(), b.isnan())


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        # a NaN marks what was not seen yet, and equals another one
        return isinstance(b, torch.Tensor) and torch.equal(torch.nan_to_num(a), torch.nan_to_num(b)) and nans(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def kill_once_there_are(run: subprocess.Popen[bytes], path: Path, lines: int) -> None:
    """SIGKILL as soon as a file has so many lines (0: as soon as it exists)."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and run.poll() is None:
        if path.exists() and (lines == 0 or path.read_bytes().count(b"\n") >= lines):
            break
        time.sleep(0.005)
    run.send_signal(signal.SIGKILL)
    run.wait()


@pytest.mark.parametrize(("workers", "precision"), [(0, "32"), (1, "bf16")])
def test_a_run_killed_twice_ends_like_one_that_was_not(tmp_path: Path, workers: int, precision: str) -> None:
    file = tmp_path / "resume.toml"
    file.write_text(EXPERIMENT.format(workers=workers, precision=precision))
    whole = tmp_path / "whole"
    killed = tmp_path / "killed"
    finish(file, whole)
    kill_once_there_are(start(file, killed), killed / "last.ckpt", 0)
    assert not (killed / "results.json").exists()
    kill_once_there_are(start(file, killed, "--resume"), killed / "metrics.jsonl", 1)
    finish(file, killed, "--resume")
    expected = outcome(whole)
    found = outcome(killed)
    assert found[0] == expected[0]
    assert all(same(found[1][key], expected[1][key]) for key in expected[1])
    assert sorted(p.name for p in killed.iterdir()) == sorted(p.name for p in whole.iterdir())
