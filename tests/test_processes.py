"""The command in two processes: started by torchrun, and by Fabric's own launcher."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

EXPERIMENT = """
name = "two"
epochs = 1
batch_size = 2
validation = 0.0
device = "cpu"
devices = 2
strategy = "ddp"

[plugins.scenes]
size = [32, 48]
train = 8
test = 4
[plugins.full]
[plugins.segnet]
width = 2
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run(launcher: str, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_PORT": str(free_port())}
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    start = torchrun if launcher == "torchrun" else []
    command = [sys.executable, *start, "-m", "mtl_core.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=280)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "fabric"])
def test_train_and_evaluate_in_two_processes(launcher: str, tmp_path: Path) -> None:
    file = tmp_path / "two.toml"
    out = tmp_path / "run"
    file.write_text(EXPERIMENT, "utf-8")
    trained = run(launcher, ["train", str(file), "--out", str(out), "--quiet"])
    assert trained.returncode == 0, trained.stderr
    assert trained.stdout.count("run folder") == 1
    assert "Traceback" not in trained.stderr
    assert (out / "report.html").is_file()
    evaluated = run(launcher, ["evaluate", str(out), "--json"])
    assert evaluated.returncode == 0, evaluated.stderr
    metrics = json.loads(evaluated.stdout)["metrics"]  # printed once, or this is no JSON
    assert metrics == json.loads((out / "results.json").read_text("utf-8"))["metrics"]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "fabric"])
def test_one_run_per_task_in_two_processes(launcher: str, tmp_path: Path) -> None:
    file = tmp_path / "two.toml"
    out = tmp_path / "stl"
    file.write_text(EXPERIMENT + "\n[plugins.randaugment]\n", "utf-8")
    trained = run(launcher, ["train-each", str(file), "--out", str(out), "--quiet"])
    assert trained.returncode == 0, trained.stderr
    assert sorted(path.parent.name for path in out.glob("*/results.json")) == ["depth", "normals", "segmentation"]
    assert trained.stdout.count("set of runs") == 1
