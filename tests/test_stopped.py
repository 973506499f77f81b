"""What is stopped by a signal to it alone takes its processes with it, says so, and can go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mtl_core import RunFolder
from mtl_core.testing import main

EXPERIMENT = """
epochs = 100000
batch_size = 2
validation = 0.0
device = "cpu"
"""
PLUGINS = """
[{0}plugins.scenes]
size = [32, 32]
train = 4
test = 2
[{0}plugins.full]
[{0}plugins.segnet]
width = 2
"""
PATIENCE = 240


def started(arguments: list[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mtl_core.cli", *arguments]
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment, preexec_fn=interruptible
    )


def interruptible() -> None:
    """A shell's background processes ignore Ctrl-C, and so do theirs."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def wait_for(what: Callable[[], object], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + PATIENCE
    while not what():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.1)


def children(process: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process)], capture_output=True, text=True, check=False)
    own = [int(pid) for pid in listed.stdout.split()]
    return own + [pid for child in own for pid in children(child)]


def is_running(process: int) -> bool:
    shown = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True, check=False
    ).stdout
    return bool(shown.strip()) and not shown.strip().startswith("Z")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_training_with_workers_ends_with_them(tmp_path: Path, number: signal.Signals, code: int) -> None:
    file, run = tmp_path / "x.toml", RunFolder(tmp_path / "run")
    file.write_text('name = "x"\nworkers = 1\n' + EXPERIMENT + PLUGINS.format(""))
    process = started(["train", str(file), "--out", str(run.folder), "--quiet"])
    wait_for(run.metrics.exists, process)
    below = children(process.pid)
    process.send_signal(number)
    _, shown = process.communicate(timeout=PATIENCE)
    assert process.returncode == code
    assert "mtl: stopped; mtl train goes on with --resume" in shown
    # no traceback of ours; a worker that was handing a batch over may show its own
    assert "mtl_core" not in shown, shown
    assert not [child for child in below if is_running(child)]
    assert not run.is_locked()


@pytest.mark.slow
def test_a_suite_ends_with_its_runs_and_says_what_is_not_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "suite.toml", tmp_path / "runs"
    head = f"[defaults]{EXPERIMENT}" + PLUGINS.format("defaults.").replace("[defaults.plugins.full]\n", "")
    file.write_text(f'name = "s"\nseeds = [0]\n{head}[scenarios.one.plugins.full]\n[experiments.supervised]\n', "utf-8")
    process, run = started(["suite", str(file), "--out", str(out)]), RunFolder(out / "one" / "supervised-0")
    wait_for(run.metrics.exists, process)
    with pytest.raises(SystemExit) as ended:  # a second one leaves the run alone, and does not say that all is done
        main(["suite", str(file), "--out", str(out)])
    assert ended.value.code not in (0, None)
    assert "left alone: another process is training it" in "".join(capsys.readouterr())
    below = children(process.pid)
    assert below
    process.send_signal(signal.SIGTERM)
    _, shown = process.communicate(timeout=PATIENCE)
    assert process.returncode == 143
    assert "mtl: stopped;" in shown
    assert "mtl_suite" not in shown, shown  # no traceback of ours; submitit's own process may show its interrupt
    assert not [child for child in below if is_running(child)]
    assert not run.is_locked()
