"""Several runs in one page, and the command that writes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mtl_core.testing import main
from mtl_report.several import _labels_of, write_comparison


def made(folder: Path, seed: int, miou: float, error: float | None, finished: bool = True) -> Path:
    folder.mkdir(parents=True)
    (folder / "experiment.toml").write_text(f'name = "<r>"\nseed = {seed}\nlearning_rate = 0.1\n')
    records = [
        {"epoch": n, "step": n, "train/loss/depth": 2.0 - n, "validation/loss/depth": 1.0, "val/depth/abs_err": error}
        for n in range(3)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    result: dict[str, Any] = {
        "name": "<r>", "seed": seed, "split": "test", "checkpoint": "last",
        "metrics": {"segmentation/miou": miou, "depth/abs_err": error},
        "directions": {"segmentation/miou": True, "depth/abs_err": False}, "units": {"depth/abs_err": "m"},
    }  # fmt: skip
    if finished:
        (folder / "results.json").write_text(json.dumps(result))
    return folder


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["report", *map(str, arguments)])
    return int(ended.value.code or 0)


def test_results_stand_beside_each_other_with_the_best_in_bold(tmp_path: Path) -> None:
    runs = [made(tmp_path / "a", 0, 40.0, 0.5), made(tmp_path / "b", 1, 41.0, 0.75)]
    page = write_comparison(runs, tmp_path / "both.html").read_text()
    assert "miou ↑<td class='n'>40<td class='n b'>41" in page
    assert "abs_err m ↓<td class='n b'>0.5<td class='n'>0.75" in page
    assert "seed was 0, now 1" in page
    assert "<r>" not in page


def test_each_curve_has_its_runs_colour(tmp_path: Path) -> None:
    runs = [made(tmp_path / "a", 0, 40.0, 0.5), made(tmp_path / "b", 1, 41.0, 0.75)]
    page = write_comparison(runs, tmp_path / "both.html").read_text()
    losses = page.partition("loss of depth")[2].partition("</figure>")[0]
    titles = ("a, training", "a, validation", "b, training", "b, validation")
    assert all(f"<title>{title}</title>" in losses for title in titles)
    assert losses.count('class="d"') == 2
    for colour in ("#2563b0", "#c4482b"):
        assert losses.count("<polyline points=") == 4
        assert losses.count(f'stroke="{colour}"') == 2


def test_a_run_that_is_not_finished(tmp_path: Path) -> None:
    runs = [made(tmp_path / "a", 0, 40.0, 0.5), made(tmp_path / "b", 1, 41.0, None, finished=False)]
    page = write_comparison(runs, tmp_path / "both.html").read_text()
    assert "not finished" in page
    assert "miou ↑<td class='n'>40<td class='n'>–" in page


def test_labels_are_as_short_as_they_can_be() -> None:
    assert _labels_of([Path("/x/a"), Path("/x/b")]) == ["a", "b"]
    assert _labels_of([Path("/x/a"), Path("/y/a")]) == ["x/a", "y/a"]
    assert _labels_of([Path("/x/a")]) == ["a"]


def test_the_command_writes_one_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [made(tmp_path / "a", 0, 40.0, 0.5), made(tmp_path / "b", 1, 41.0, 0.75)]
    monkeypatch.chdir(tmp_path)
    assert command(*runs) == 0
    assert capsys.readouterr().out == "report.html\n"
    assert "2 runs" in (tmp_path / "report.html").read_text()
    assert command(runs[0]) == 0
    assert (runs[0] / "report.html").is_file()
    assert command(*runs, "--out", runs[0]) == 2
    assert "is a folder" in capsys.readouterr().err
    assert command(runs[0], tmp_path / "nothing") == 2
    assert "not a run folder" in capsys.readouterr().err
