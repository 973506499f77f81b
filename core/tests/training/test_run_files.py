"""What a run folder keeps of plugins in plain files, and what it refuses to go on with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mtl_core import (
    CheckpointError,
    Experiment,
    RunFolder,
    evaluate_run,
    hookimpl,
    load_experiment,
    plugin,
    train,
)
from mtl_core.testing import command
from mtl_core.testing.toys import ToyData, ToyLabels, ToyNetwork
from mtl_core.training.run_files import _read_versions


def test_trains_resumes_evaluates_and_predicts_from_the_run_folder_alone(idea_file: Path, tmp_path: Path) -> None:
    from PIL import Image

    out, idea = tmp_path / "run", (idea_file.parent / "my_idea.py").read_text()
    assert command("train", idea_file, "--out", out, "--quiet") == 0
    record = json.loads((out / "metrics.jsonl").read_text())
    assert record["myidea/mean"] > 0
    assert (out / "my_idea.py").read_text() == idea
    assert json.loads((out / "versions.json").read_text())["myidea"].startswith("my_idea.py sha256 ")
    assert command("train", idea_file, "--out", out, "--quiet", "--resume", "--set", "epochs=2") == 0
    for path in (idea_file, idea_file.parent / "my_idea.py"):
        path.rename(path.with_suffix(".gone"))
    assert command("train", out / "experiment.toml", "--out", out, "--quiet", "--resume", "--set", "epochs=3") == 0
    assert len(RunFolder(out).history()) == 3
    assert command("evaluate", out, "--split", "train") == 0
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    assert command("predict", out, tmp_path / "photo.png", "--out", tmp_path / "predictions") == 0
    assert (tmp_path / "predictions" / "photo_depth.png").is_file()


def test_changed_code_does_not_go_on(idea_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out, idea = tmp_path / "run", idea_file.parent / "my_idea.py"
    assert command("train", idea_file, "--out", out, "--quiet") == 0
    idea.write_text(idea.read_text().replace("mean()}", "sum()}"))
    with pytest.raises(CheckpointError, match=r"has changed since this run began, .* go on with the run's own copy"):
        train(load_experiment(idea_file, ["epochs=2"]), out, resume=True)
    own = load_experiment(out / "experiment.toml", ["epochs=2"])
    assert len(train(own, out, resume=True).history()) == 2
    (out / "my_idea.py").write_text(idea.read_text())
    with pytest.raises(CheckpointError, match="the run's copy of a plugin has changed since it began; put it back"):
        train(load_experiment(out / "experiment.toml", ["epochs=3"]), out, resume=True)
    caplog.clear()
    evaluate_run(RunFolder(out))
    assert f"{out}/my_idea.py: this file has changed since the run was trained with it" in caplog.text


def test_another_file_in_the_run_folder_is_not_overwritten(idea_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "my_idea.py").write_text("print('mine')\n")
    with pytest.raises(CheckpointError, match=r"differs from .*/beside/my_idea.py, which the run would copy here"):
        train(load_experiment(idea_file), out)
    assert (out / "my_idea.py").read_text() == "print('mine')\n"


def test_the_run_folder_may_be_the_experiments_own(idea_file: Path) -> None:
    source = idea_file.parent / "my_idea.py"
    before = source.read_text()
    train(load_experiment(idea_file), idea_file.parent)
    assert source.read_text() == before


@plugin
class Mine:
    """A plugin that only this program has."""

    weight: float = 1.0

    @hookimpl
    def compute_regularizer(self) -> None:
        return None


def in_python(epochs: int) -> Experiment:
    plugins = [ToyData(), ToyLabels(), ToyNetwork(), Mine()]
    return Experiment(name="r", plugins=plugins, epochs=epochs, batch_size=2, validation=0.25, device="cpu")


def test_python_defined_runs_go_on_and_are_judged_with_their_objects(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(in_python(1), tmp_path)
    resumed = train(in_python(2), tmp_path, resume=True)
    assert len(resumed.history()) == 2
    found = evaluate_run(resumed, experiment=in_python(2))
    assert found == pytest.approx(json.loads(resumed.results.read_text())["metrics"])
    assert command("evaluate", tmp_path) == 2
    assert "mine, toydata, toylabels, toynetwork: defined in Python; give the experiment in Python" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("text", [None, "{half", "[1]"])
def test_versions_that_cannot_be_read_are_none(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "versions.json").write_text(text)
    assert _read_versions(RunFolder(tmp_path)) == {}
