"""The scripts of ``tests/benchmarks`` start, measure something small, and print JSON."""

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent / "benchmarks"
SCRIPTS = sorted(path.stem for path in BENCHMARKS.glob("*.py"))
Run = Callable[..., Any]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Call a script's ``main``; peaks of fresh processes, of which each takes seconds to start, are not measured."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(BENCHMARKS)

    def call(script: str, *arguments: str, **settings: object) -> Any:
        made = importlib.import_module(script)
        for name, value in settings.items():
            monkeypatch.setattr(made, name, value)
        if hasattr(made, "last_number"):
            monkeypatch.setattr(made, "last_number", lambda command: 2.0)
        monkeypatch.setattr(sys, "argv", [f"{script}.py", *arguments])
        made.main()
        return json.loads(capsys.readouterr().out)

    yield call
    for name in set(SCRIPTS) - before:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help(run: Run, capsys: pytest.CaptureFixture[str], script: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(script, "--help")
    assert not stopped.value.code
    assert "--" in capsys.readouterr().out


def test_jtr_step(run: Run) -> None:
    found = run("jtr_step", "--width", "2", "--pairs", "2")
    assert set(found) == {"jtr", "jtr, channels first", "jtr, checkpoint", "equations written out"}
    assert all(row["pairs"] == 2 and row["median"] > 0 for row in found.values())


@pytest.mark.slow
def test_bench(run: Run) -> None:
    found = run("bench", "--width", "2", "--pairs", "2", "--device", "cpu", "--size", "32", "32", "--batch", "2")
    rows = [row for row in found.values() if isinstance(row, dict)]
    assert [row["pairs"] for row in rows] == [2] * 7
    assert found["jtr, checkpoint memory / uniform memory"] == 1
    assert (found["width"], found["batch"], found["size"]) == (2, 2, [32, 32])


def test_weighting(run: Run) -> None:
    found = run("weighting", "--width", "2", "--pairs", "2", "--tasks", "3", "--methods", "imtl", "torchjd MGDA")
    assert found["3 tasks"]["imtl"]["median"] > 0
    assert found["3 tasks"]["torchjd MGDA"]["memory"] == 1


@pytest.mark.slow
def test_scaling(run: Run) -> None:
    found = run("scaling", "--rounds", "2", COUNTS=(2, 3, 4), SCENARIOS=("one",), SIZE=(32, 32))
    assert set(found["jtr, one"]["seconds"]) == {"2", "3", "4"}


@pytest.mark.parametrize("script", ["bench", "weighting"])
def test_a_device_that_is_not_there_is_told_at_once(run: Run, script: str, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("CUDA is there")
    with pytest.raises(SystemExit) as stopped:
        run(script, "--device", "cuda")
    assert stopped.value.code == 2
    assert "finds no CUDA device; use --device cpu" in capsys.readouterr().err
