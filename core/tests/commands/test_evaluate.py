"""``mtl evaluate``: splits, checkpoints, settings that differ, and the files that they are written to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mtl_core.commands.evaluate import evaluate_run, read_results
from mtl_core.errors import CheckpointError
from mtl_core.run_folder import RunFolder
from mtl_core.testing import command


@pytest.mark.parametrize("val", [0, 6])
def test_the_split_val_is_what_the_best_epoch_was_chosen_by(
    val: int, toy_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = RunFolder(toy_file.parent / "run")
    assert command("train", toy_file, "--out", run.folder, "--quiet", "--set", f"plugins.data.val={val}") == 0
    assert command("evaluate", run.folder, "--split", "val") == 0
    record = json.loads((run.folder / "results-val-last.json").read_text())
    in_training = {f"val/{name}": value for name, value in record["metrics"].items()}
    assert in_training == pytest.approx({name: run.history()[-1][name] for name in in_training})
    reported = [r.getMessage() for r in caplog.records if "no split val" in r.getMessage()]
    share = f"{run.folder}: the data have no split val (they have: train, test); evaluating the 2 training samples"
    assert reported == ([] if val else [f"{share} that the run kept for validation"])


def test_without_validation_data_there_is_one_message(toy_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = toy_file.parent / "run"
    assert command("train", toy_file, "--out", run, "--quiet", "--set", "validation=0") == 0
    capsys.readouterr()
    assert command("evaluate", run, "--split", "val") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "there are no validation data: the data set has no split of this name (it has: train, test)" in line
    assert "train with validation above 0" in line


def test_another_checkpoint_and_another_setting_have_files_of_their_own(toy_file: Path) -> None:
    run = toy_file.parent / "run"
    assert command("train", toy_file, "--out", run, "--quiet") == 0
    before = (run / "results.json").read_text()
    assert evaluate_run(RunFolder(run), name="best")
    assert evaluate_run(RunFolder(run), overrides=("plugins.data.samples=4",))
    written = {path.name for path in run.glob("results*.json")}
    assert written == {"results.json", "results-test-best.json", "results-test-last.json"}
    assert (run / "results.json").read_text() == before
    assert json.loads((run / "results-test-last.json").read_text())["overrides"] == ["plugins.data.samples=4"]


def test_what_changes_no_number_writes_the_results_of_training(toy_file: Path) -> None:
    run = toy_file.parent / "run"
    assert command("train", toy_file, "--out", run, "--quiet") == 0
    (run / "results.json").unlink()
    found = evaluate_run(RunFolder(run), overrides=("batch_size=3",))
    record = read_results(RunFolder(run))
    assert record["metrics"] == pytest.approx(found)
    assert record["runtime_seconds"] >= 0


def test_a_checkpoint_that_no_run_has_and_one_of_another_experiment(toy_file: Path) -> None:
    run, other = RunFolder(toy_file.parent / "run"), RunFolder(toy_file.parent / "other")
    assert command("train", toy_file, "--out", run.folder, "--quiet") == 0
    assert command("train", toy_file, "--out", other.folder, "--quiet", "--set", "learning_rate=0.5") == 0
    with pytest.raises(CheckpointError, match='--checkpoint lost: expected last or best; did you mean "last"'):
        evaluate_run(run, name="lost")
    run.checkpoint().write_bytes(other.checkpoint().read_bytes())
    with pytest.raises(
        CheckpointError, match=r"written by another experiment than .*learning_rate.*own checkpoint back"
    ):
        evaluate_run(run)


@pytest.mark.parametrize("text", ["{half", "[1]", '{"metrics": 3}'])
def test_damaged_results_say_how_to_write_them_again(tmp_path: Path, text: str) -> None:
    run = RunFolder(tmp_path)
    run.results.write_text(text)
    with pytest.raises(CheckpointError, match=f"`mtl evaluate {tmp_path}` writes it again"):
        read_results(run)
