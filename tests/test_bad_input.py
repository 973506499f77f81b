# ruff: noqa: E501 - a case is a line
"""What a person sees who made a mistake: file, key, what was found, what was expected, what to do; exit code 2."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from mtl_core import cli
from mtl_core.training.checkpoint import load_checkpoint, save_checkpoint

GOOD = """
name = "good"
epochs = 1
batch_size = 4
device = "cpu"

[plugins.scenes]
size = [32, 32]
train = 8
test = 2
[plugins.onelabel]
[plugins.segnet]
width = 4
[plugins.ial]
primary = "segmentation"
"""

Edit = Callable[[str], str]


def replace(old: str, new: str) -> Edit:
    assert old in GOOD, old
    return lambda text: text.replace(old, new)


def add(lines: str) -> Edit:
    return lambda text: text + lines


def at_top(line: str) -> Edit:
    return lambda text: line + "\n" + text


EXPERIMENTS: dict[str, tuple[Edit, list[str]]] = {
    "no TOML": (add("[plugins.jtr\n"), ["x.toml:16", "not valid TOML"]),
    "unknown setting": (at_top("learning_rat = 0.1"), ["learning_rat: unknown setting", 'did you mean "learning_rate"']),
    "text for a number": (replace("epochs = 1", 'epochs = "many"'), ["epochs: expected a whole number", '"many" (text)']),
    "fraction for a count": (replace("batch_size = 4", "batch_size = 2.5"), ["batch_size: expected a whole number", "2.5"]),
    "out of range": (at_top("validation = 1.5"), ["validation: ", "< 1.0", "1.5"]),
    "negative rate": (at_top("learning_rate = -1"), ["learning_rate: ", "> 0", "-1"]),
    "no such choice": (at_top('optimizer = "adamm"'), ['optimizer: expected "adam"', '"adamm"', 'did you mean "adam"']),
    "text for a truth": (at_top('compile = "false"'), ["compile: expected true or false", '"false" (text)']),
    "no name": (replace('name = "good"', ""), ["name: missing", "expected text"]),
    "no plugins": (lambda text: 'name = "x"', ["plugins", "missing"]),
    "misspelt plugin": (add("[plugins.jrt]\n"), ["plugins.jrt: no plugin of this name", 'did you mean "jtr"']),
    "plugin not installed": (add("[plugins.quaternion]\n"), ["plugins.quaternion: no plugin of this name", "installed: "]),
    "misspelt option": (replace("primary =", "primry ="), ["plugins.ial.primry: unknown option", 'did you mean "primary"']),
    "missing option": (replace('primary = "segmentation"', ""), ["plugins.ial.primary: missing"]),
    "option out of range": (replace("width = 4", "width = -4"), ["plugins.segnet.width", "-4"]),
    "wrong length": (replace("[32, 32]", "[32]"), ["plugins.scenes.size: expected a list of 2", "[32]"]),
    "wrong item": (replace("[32, 32]", '[32, "x"]'), ["plugins.scenes.size[1]: expected a whole number", '"x"']),
    "option no table": (add("plugins.jtr = 3\n"), ["x.toml"]),
    "two for one place": (add("[plugins.full]\n"), ["make_label_mask", "onelabel and full", "[use] make_label_mask ="]),
    "empty place": (replace("[plugins.onelabel]", ""), ["make_label_mask: no plugin fills this place", "mtl plugins --hooks"]),
    "use of no hook": (add('[use]\ncombine_loss = "ial"\n'), ["use.combine_loss", 'did you mean "combine_losses"']),
    "use of no plugin": (add('[use]\ncombine_losses = "jtr"\n'), ["use.combine_losses", '"jtr"', "ial"]),
    "use of one that cannot": (add('[use]\ncombine_losses = "segnet"\n'), ["use.combine_losses", '"segnet"', "['ial']"]),
    "unknown task": (replace('"segmentation"', '"segmentasion"'), ["'segmentasion'", 'did you mean "segmentation"', "plugin \"ial\""]),
    "unknown data task": (replace("train = 8", 'tasks = ["depht"]'), ["plugins.scenes.tasks", "'depht'", 'did you mean "depth"']),
    "image too small": (replace("[32, 32]", "[16, 16]"), ["32", "16", 'plugin "segnet"']),
    "too few samples": (replace("batch_size = 4", "batch_size = 40"), ["7 training samples", "batch of 40", "lower batch_size"]),
    "metric that is none": (at_top('best_on = "segmentation/iou"'), ["best_on", "segmentation/iou", 'did you mean "segmentation/miou"']),
    "frozen task that is none": (at_top('freeze = ["dept"]'), ["freeze", '"dept"', 'did you mean "depth"']),
}  # fmt: skip


def failing(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Standard error of a command that must fail with exit code 2 and without a traceback."""
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(a) for a in arguments])
    captured = capsys.readouterr()
    assert stopped.value.code == 2, captured.err
    assert "Traceback" not in captured.err
    return captured.err


@pytest.mark.parametrize("case", EXPERIMENTS)
def test_a_wrong_experiment(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit, expected = EXPERIMENTS[case]
    file = tmp_path / "x.toml"
    file.write_text(edit(GOOD))
    message = failing(capsys, "train", file, "--out", tmp_path / "run", "--quiet")
    assert [part for part in expected if part not in message] == [], message
    assert not (tmp_path / "run" / "last.ckpt").exists()


def test_every_mistake_is_reported_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.toml"
    file.write_text(
        GOOD.replace("epochs = 1", "epochs = 0\nseed = -1")
        .replace("width = 4", "width = 0")
        .replace("primary", "primry")
    )
    message = failing(capsys, "train", file)
    assert f"{file}: 5 problems" in message
    for key in ("epochs", "seed", "plugins.segnet.width", "plugins.ial.primry", "plugins.ial.primary"):
        assert f"\n  {key}: " in message


def test_wrong_overrides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.toml"
    file.write_text(GOOD)
    message = failing(capsys, "train", file, "--set", "epoch=3", "--set", "plugins.segnet.width=wide", "--set", "seed")
    assert 'did you mean "epochs"' in message
    assert "plugins.segnet.width: expected a whole number" in message
    assert "KEY=VALUE" in message


def test_a_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rooms.toml").write_text(GOOD)
    assert 'did you mean "rooms.toml"' in failing(capsys, "train", tmp_path / "room.toml")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "x.toml").write_text(GOOD)
    cli_train(folder / "x.toml", folder / "run")
    return folder / "run"


def cli_train(file: Path, out: Path, *options: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["train", str(file), "--out", str(out), "--quiet", *options])
    assert stopped.value.code == 0


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_a_run_is_not_overwritten(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run / "last.ckpt").read_bytes()
    message = failing(capsys, "train", run / "experiment.toml", "--out", run)
    assert "holds a run already; add --resume" in message
    assert (run / "last.ckpt").read_bytes() == before


def test_resuming_with_other_settings(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.toml"
    file.write_text(GOOD.replace("width = 4", "width = 8"))
    message = failing(capsys, "train", file, "--out", run, "--resume")
    assert "started with other settings (plugins.segnet.width was 4, now 8)" in message


def spoil_truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def spoil_text(path: Path) -> None:
    path.write_text("not a checkpoint")


def spoil_format(path: Path) -> None:
    torch.save({"format": 99}, path)


def spoil_weights(path: Path) -> None:
    state = load_checkpoint(path)
    name = next(n for n in state["step"] if n.endswith("weight") and "network" in n)
    state["step"][name] = torch.zeros(1)
    save_checkpoint(path, {k: v for k, v in state.items() if k != "format"})


CHECKPOINTS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "missing": (Path.unlink, ["no such checkpoint", "mtl train"]),
    "truncated": (spoil_truncated, ["cannot be read as a checkpoint", "train again"]),
    "text": (spoil_text, ["cannot be read as a checkpoint"]),
    "format": (spoil_format, ["checkpoint format 99, expected 2"]),
    "weights": (spoil_weights, ["does not fit the experiment's networks", "has shape (1,), expected"]),
}


@pytest.mark.parametrize("case", CHECKPOINTS)
@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_a_wrong_checkpoint(
    case: str, command: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, expected = CHECKPOINTS[case]
    spoil(run / "last.ckpt")
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    rest = [tmp_path / "a.png", "--out", tmp_path / "p"] if command == "predict" else []
    message = failing(capsys, command, run, *rest)
    assert str(run / "last.ckpt") in message
    assert [part for part in expected if part not in message] == [], message


@pytest.mark.parametrize("command", ["evaluate", "compare", "predict"])
def test_a_folder_that_is_no_run(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    rest = {"evaluate": [], "compare": [tmp_path], "predict": [tmp_path / "a.png"]}[command]
    assert f"{tmp_path}: not a run folder" in failing(capsys, command, tmp_path, *rest)


def test_comparing_an_unfinished_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "results.json").unlink()
    assert f"mtl evaluate {run}" in failing(capsys, "compare", run, run)


def test_comparing_other_tasks(run: Path, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = json.loads((run / "results.json").read_text())
    record["headline"] = {"depth/abs_err": False}
    (run / "results.json").write_text(json.dumps(record))
    assert "compare runs with the same tasks" in failing(capsys, "compare", trained, run)


def test_images_that_are_none(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such image" in failing(capsys, "predict", run, tmp_path / "none.png")
    (tmp_path / "text.png").write_text("x")
    assert "cannot be read as an image" in failing(capsys, "predict", run, tmp_path / "text.png")


def test_two_images_of_one_name(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = [tmp_path / folder / "photo.png" for folder in ("a", "b")]
    for path in images:
        path.parent.mkdir()
        Image.new("RGB", (40, 40)).save(path)
    out = tmp_path / "p"
    message = failing(capsys, "predict", run, *images, "--out", out)
    assert f"{images[0]} and {images[1]} would both become {out}/photo_*.png" in message
    assert not out.exists()


def test_an_image_that_a_prediction_would_overwrite(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / f"{name}.png" for name in ("pic", "pic_depth")]
    for path in paths:
        Image.new("RGB", (40, 40)).save(path)
    before = {path: path.read_bytes() for path in tmp_path.glob("*.png")}
    message = failing(capsys, "predict", run, *paths, "--out", tmp_path / "run" / "..")
    assert f"{paths[1]}: would be overwritten by the prediction of {paths[0]}; choose another --out" in message
    assert {path: path.read_bytes() for path in tmp_path.glob("*.png")} == before


def test_an_image_beside_its_predictions_stays(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "pic.png"
    Image.new("RGB", (40, 40)).save(path)
    before = path.read_bytes()
    with pytest.raises(SystemExit) as stopped:
        cli.main(["predict", str(run), str(path), "--out", str(tmp_path)])
    assert stopped.value.code == 0
    assert path.read_bytes() == before
    tasks = ("segmentation", "depth", "normals", "all")
    assert all((tmp_path / f"pic_{name}.png").is_file() for name in tasks)


def test_a_metric_of_no_task(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = failing(capsys, "compare", run, run, "--metric", "dept/rmse")
    assert 'metric "dept/rmse": expected TASK/METRIC of the runs; did you mean "depth/rmse"?' in message


def test_more_epochs_with_a_schedule(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.toml"
    text = (run / "experiment.toml").read_text().replace('schedule = "constant"', 'schedule = "cosine"')
    (run / "experiment.toml").write_text(text)
    file.write_text(text)
    message = failing(capsys, "train", file, "--out", run, "--resume", "--set", "epochs=2")
    assert 'epochs was 1, now 2: schedule "cosine" would have had other rates' in message


def test_a_split_that_is_none(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = failing(capsys, "evaluate", run, "--split", "tset")
    assert "'tset'" in message
    assert 'did you mean "test"' in message


@pytest.mark.slow
def test_one_process_of_two_tells_the_mistake(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text(GOOD.replace('ial]\nprimary = "segmentation"', 'torchjd]\naggregator = "GradDrop"') + "[use]\n")
    command = [sys.executable, "-m", "mtl_core.cli", "train", file, "--out", tmp_path / "run", "--set", "devices=2"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    output = ended.stdout + ended.stderr
    assert ended.returncode == 2, output
    assert output.count("of which each of the 2 processes has a part") == 1
    assert "Traceback" not in output
