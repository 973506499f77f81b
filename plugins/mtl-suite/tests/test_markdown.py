"""Tables in Markdown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mtl_core.testing import main

METRICS = {"segmentation/pixel_accuracy": 50.0, "segmentation/miou": 10.0, "depth/abs_err": 0.5}


def run(root: Path, name: str, seed: int = 0, **metrics: float | None) -> Path:
    folder = root / f"{len(list(root.iterdir()))}"
    folder.mkdir()
    (folder / "experiment.toml").write_text(f"name = {json.dumps(name)}\n")
    found: dict[str, Any] = {"name": name, "seed": seed, "split": "test", "checkpoint": "last", "epoch": 1}
    found["metrics"] = METRICS | {known: metrics[known[-4:]] for known in METRICS if known[-4:] in metrics}
    found["headline"] = {"segmentation/miou": True, "depth/abs_err": False}
    found["units"] = {"segmentation/miou": "%", "depth/abs_err": "m"}
    (folder / "results.json").write_text(json.dumps(found))
    return folder


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[str]:
    with pytest.raises(SystemExit) as stop:
        main(["compare", *map(str, arguments)])
    assert stop.value.code == 0
    return capsys.readouterr().out.splitlines()


def test_metrics_of_delta_come_first_with_spread_seeds_and_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = [run(tmp_path, "plain", seed, miou=miou) for seed, miou in enumerate((9.0, 11.0))]
    jtr = [run(tmp_path, "jtr", seed, miou=miou) for seed, miou in enumerate((12.0, 12.0))]
    assert printed(capsys, *plain, *jtr, run(tmp_path, "one|_[x]", miou=5.0), "--markdown") == [
        r"| experiment | seeds | segmentation/miou % ↑ | depth/abs\_err m ↓ | segmentation/pixel\_accuracy | Δ% ↑ |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
        "| plain | 2 | 10 ± 1.4 | **0.5 ± 0** | 50 ± 0 | +0.0 ± 7.1 |",
        "| jtr | 2 | **12 ± 0** | **0.5 ± 0** | 50 ± 0 | +10.0 ± 0 |",
        r"| one\|\_\[x\] | one seed | 5 | **0.5** | 50 | −25.0 |",
        "",
        "Mean ± standard deviation over seeds; one seed has no deviation. Δ% against plain, from the metrics with an"
        " arrow.",
    ]


def test_one_seed_each_is_said_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    *_, note = printed(capsys, run(tmp_path, "plain"), run(tmp_path, "jtr", miou=None), "--markdown")
    assert note == "One seed of each. Δ% against plain, from the metrics with an arrow."


def test_a_value_that_is_missing_is_a_dash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, run(tmp_path, "plain"), run(tmp_path, "jtr", miou=None), "--markdown")
    assert lines[3] == "| jtr | one seed | – | **0.5** | 50 | – |"


def test_json_and_markdown_exclude_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["compare", str(run(tmp_path, "plain")), str(run(tmp_path, "jtr")), "--markdown", "--json"])
    assert stop.value.code != 0
    shown = capsys.readouterr()
    assert "--markdown and --json exclude each other" in shown.err
    assert not shown.out
