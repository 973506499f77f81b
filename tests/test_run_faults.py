"""Faults of a run by the command itself: nothing is lost, one message, no traceback."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_runs import EXPERIMENT

from mtl_core import RunFolder
from mtl_core.testing import command, main


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    file = folder / "fault.toml"
    file.write_text(EXPERIMENT, "utf-8")
    assert command("train", file, "--out", folder / "run[/b]", "--quiet") == 0  # rich markup in a folder's name is text
    return folder / "run[/b]"


def message(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert command(*arguments) != 0
    return capsys.readouterr().err


def test_evaluate_of_a_folder_with_markup_in_its_name(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("evaluate", finished) == 0
    assert "[/b]" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["/etc/passwd", "lats", "../last"])
def test_only_a_runs_own_checkpoints(finished: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "expected last or best" in message(["evaluate", str(finished), "--checkpoint", name], capsys)


def test_a_damaged_checkpoint(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = finished / "last.ckpt"
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[len(damaged) // 2] ^= 1
    try:
        path.write_bytes(damaged)
        assert "last.ckpt: cannot be read as a checkpoint" in message(["evaluate", str(finished)], capsys)
    finally:
        path.write_bytes(whole)


def labels(path: Path, **arrays: object) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["empty", "random", "no key", "pickled", "rank", "type", "complex", "columns"])
def test_a_damaged_label_mask(finished: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = finished / "labels.npz"
    whole = path.read_bytes()
    names = np.array(["segmentation", "depth", "normals"])
    arrays = {
        "no key": {"other": np.ones(3)},
        "pickled": {"labelled": np.array([{}], object), "tasks": names},
        "rank": {"labelled": np.ones(4, bool), "tasks": names},
        "type": {"labelled": np.ones((4, 3)), "tasks": names},
        "complex": {"labelled": np.ones((4, 3), complex), "tasks": names},
        "columns": {"labelled": np.ones((4, 2), bool), "tasks": names},
    }
    try:
        if kind in arrays:
            labels(path, **arrays[kind])
        else:
            path.write_bytes(b"" if kind == "empty" else b"PK\x03\x04 nothing")
        shown = message(
            ["train", str(finished / "experiment.toml"), "--out", str(finished), "--resume", "--set", "epochs=2"],
            capsys,
        )
        assert "labels.npz: cannot be read as a label mask" in shown
    finally:
        path.write_bytes(whole)


RESULTS: list[dict[str, object]] = [
    {"name": ["x"]}, {"seed": ["x"]}, {"split": 3}, {"units": ["m"]}, {"directions": "up"}, {"headline": ["x"]},
    {"metrics": {"depth/abs_err": "x"}}, {"metrics": {"depth/abs_err": [[]]}}, {"counts_for": 3}, {"problems": 3},
    {"checkpoint": ["last"]},
]  # fmt: skip


@pytest.mark.parametrize("change", RESULTS, ids=str)
def test_results_of_other_types_are_named(
    finished: Path, change: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    path = finished / "results.json"
    whole = path.read_text("utf-8")
    try:
        path.write_text(json.dumps(json.loads(whole) | change), "utf-8")
        assert "results.json: not the results of a run" in message(["compare", str(finished), str(finished)], capsys)
    finally:
        path.write_text(whole, "utf-8")


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"metrics": 3}', "[" * 100_000, '{"metrics": ' + "9" * 5000])
def test_damaged_results_are_named(finished: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = finished / "results.json"
    whole = path.read_text("utf-8")
    try:
        path.write_text(text, "utf-8")
        shown = message(["compare", str(finished), str(finished)], capsys)
        assert "results.json" in shown
    finally:
        path.write_text(whole, "utf-8")


def test_a_test_split_that_is_missing_is_found_before_training(tmp_path: Path, install: object) -> None:
    from mtl_core import DataError, Experiment, MultiTaskDataset, hookimpl, plugin, train
    from mtl_core.testing import Shapes, ToyLabels, ToyNetwork

    @plugin
    class TrainOnly:
        @hookimpl
        def build_dataset(self, split: str) -> MultiTaskDataset:
            if split != "train":
                raise DataError(f"no images of the {split} split")
            return Shapes(4, (32, 32), split)

    experiment = Experiment(name="x", plugins=[TrainOnly(), ToyLabels(), ToyNetwork()], epochs=1, batch_size=2)
    with pytest.raises(DataError, match="no images of the test split"):
        train(experiment, tmp_path / "run")
    assert not (tmp_path / "run" / "last.ckpt").exists()


def test_predict_turns_images_and_writes_through_no_link(finished: Path, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    out = tmp_path / "out"
    picture = Image.new("RGB", (40, 60))
    exif = picture.getexif()
    exif[0x0112] = 6  # turned by a quarter
    picture.save(photo, exif=exif)
    assert command("predict", str(finished), str(photo), "--out", str(out), "--json") == 0
    target = out / "photo_depth.png"
    target.unlink()
    target.symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(SystemExit):
        main(["predict", str(finished), str(photo), "--out", str(out)])
    assert not (tmp_path / "elsewhere.png").exists()


def test_predict_overwrites_no_input_under_another_name(finished: Path, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    out = tmp_path / "out"
    Image.new("RGB", (40, 40), "red").save(photo)
    out.mkdir()
    (out / "photo_depth.png").hardlink_to(photo)
    before = photo.read_bytes()
    with pytest.raises(SystemExit):
        main(["predict", str(finished), str(photo), "--out", str(out)])
    assert photo.read_bytes() == before


SETTINGS = {
    "best_on without a validation sample": (
        ["best_on=depth/abs_err", "validation=0.01"],
        "best_on = 'depth/abs_err': validation = 0.01 keeps none of the 4 training samples for validation",
    ),
    "a task twice": (["tasks=depth,depth"], "expected each task once, found depth more than once"),
    "endless epochs": (["epochs=1" + "0" * 30], "epochs: must be <= 1000000"),
    "endless data": (["plugins.scenes.train=1000000000000"], "plugins.scenes.train: must be <= 1000000"),
    "endless images": (["plugins.scenes.size=1000000,1000000"], "expected at most 16777216 pixels together"),
    "endless workers": (["workers=100000"], "workers: must be <= 1024"),
    "endless machines": (["nodes=99999999"], "nodes: must be <= 10000"),
    "validation of all": (["validation=0.999"], "0 training samples do not fill one batch"),
    "a batch above the data": (["batch_size=1000"], "4 training samples do not fill one batch of 1000"),
    "dropped and mixed": (["drop_unlabelled=true", "unlabelled_per_batch=1"], "use one of the two"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_settings_that_cannot_be_meant(tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    settings, expected = SETTINGS[case]
    file = tmp_path / "x.toml"
    file.write_text(EXPERIMENT, "utf-8")
    options = [part for setting in settings for part in ("--set", setting)]
    assert expected in message(["train", str(file), "--out", str(tmp_path / "run"), *options], capsys)
    assert not (tmp_path / "run" / "last.ckpt").exists()


DOUBTFUL = {
    "every head frozen": ("freeze=segmentation,depth,normals", "freeze names every task: no head is trained"),
    "no unlabelled sample": ("unlabelled_per_batch=1", "every training sample has a label, and none is added"),
}


@pytest.mark.parametrize("case", DOUBTFUL)
def test_settings_that_may_be_meant(tmp_path: Path, case: str, caplog: pytest.LogCaptureFixture) -> None:
    setting, expected = DOUBTFUL[case]
    file = tmp_path / "x.toml"
    file.write_text(EXPERIMENT, "utf-8")
    assert command("train", str(file), "--out", str(tmp_path / "run"), "--quiet", "--set", setting) == 0
    assert expected in caplog.text


def test_the_command_alone_says_what_it_can_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([])
    shown = "".join(capsys.readouterr())
    assert all(name in shown for name in ("Usage", "train", "evaluate", "predict", "suite"))


PICTURES = ("png", "jpg", "gif", "bmp", "tif", "webp", "qoi", "sgi", "dds", "im", "avif", "ppm", "tga", "jp2", "pcx")


@pytest.mark.filterwarnings("ignore:.*deprecated")  # Pillow on writing .im
@pytest.mark.parametrize("kind", PICTURES)
def test_damaged_images_are_one_line_each(
    finished: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, draw = tmp_path / f"photo.{kind}", np.random.default_rng(0)
    try:
        Image.fromarray(draw.integers(256, size=(24, 32, 3), dtype=np.uint8)).save(path)
    except (KeyError, ValueError, OSError):
        pytest.skip(f"this Pillow writes no .{kind}")
    whole = path.read_bytes()
    for damaged in (b"", whole[:8], whole[:20], whole[:12] + b"\xff" * 12 + whole[24 : len(whole) // 2]):
        path.write_bytes(damaged)
        shown = message(["predict", str(finished), str(path), "--out", str(tmp_path / "out")], capsys)
        assert "photo." in shown
        assert len(shown.strip().splitlines()) == 1


@pytest.mark.parametrize("head", [b"P6 30000 30000 255\n", b"P6 2000000000 2000000000 255\n"])
def test_an_image_that_would_fill_the_memory_is_refused(
    finished: Path, tmp_path: Path, head: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bomb.ppm").write_bytes(head)
    shown = message(["predict", str(finished), str(tmp_path / "bomb.ppm"), "--out", str(tmp_path / "out")], capsys)
    assert "pixels; expected at most 178956970: make the image smaller" in shown


def test_predict_reads_regular_files_only(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import os

    os.mkfifo(tmp_path / "pipe.png")
    assert "not a regular file" in message(["predict", str(finished), str(tmp_path / "pipe.png")], capsys)


def test_results_record_directions_and_units(finished: Path) -> None:
    record = json.loads((finished / "results.json").read_text("utf-8"))
    assert record["directions"]["depth/abs_err"] is False
    assert record["directions"]["segmentation/miou"] is True
    assert record["units"]["depth/abs_err"] == "m"


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(
    finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "killed"
    out.mkdir()
    for name in ("experiment.toml", "labels.npz"):
        (out / name).write_bytes((finished / name).read_bytes())
    (out / "metrics.jsonl").write_text('{"epoch": 0, "seconds": 1.0, "step": 2}\n', "utf-8")
    assert command("train", str(out / "experiment.toml"), "--out", str(out), "--resume", "--quiet") == 0
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert [record["epoch"] for record in records] == [0]
    assert "no checkpoint yet" in caplog.text


def test_weights_without_their_experiment_are_not_taken_up(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bare"
    out.mkdir()
    (out / "last.ckpt").write_bytes((finished / "last.ckpt").read_bytes())
    shown = message(["train", str(finished / "experiment.toml"), "--out", str(out)], capsys)
    assert "experiment.toml is missing" in shown


def test_a_checkpoint_of_another_experiment_is_not_evaluated(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "other"
    out.mkdir()
    (out / "last.ckpt").write_bytes((finished / "last.ckpt").read_bytes())
    text = (finished / "experiment.toml").read_text("utf-8").replace("seed = 0", "seed = 1", 1)
    (out / "experiment.toml").write_text(text, "utf-8")
    assert "written by another experiment" in message(["evaluate", str(out)], capsys)


full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")


@full
def test_a_full_disk_ends_a_prediction_in_one_line_and_leaves_no_empty_file(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "photo.png")
    out = tmp_path / "out"
    out.mkdir()
    (out / f".photo_depth.png.{os.getpid()}.part").symlink_to("/dev/full")
    shown = message(["predict", str(finished), str(tmp_path / "photo.png"), "--out", str(out)], capsys)
    assert "photo_depth.png: No space left on device; free some space" in shown
    assert len(shown.strip().splitlines()) == 1
    assert not [path.name for path in out.iterdir() if "depth" in path.name or path.stat().st_size == 0]


@full
def test_a_full_disk_ends_a_training_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (tmp_path / "x.toml").write_text(EXPERIMENT, "utf-8")
    (out / "metrics.jsonl").symlink_to("/dev/full")
    shown = message(["train", str(tmp_path / "x.toml"), "--out", str(out), "--quiet"], capsys)
    assert "metrics.jsonl: No space left on device; free some space, then go on: mtl train goes on with" in shown
    assert len(shown.strip().splitlines()) == 1


@full
@pytest.mark.parametrize("command", ["evaluate", "train"])
def test_a_full_disk_leaves_the_results_that_were_there(
    finished: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(RunFolder, "clear_remains", lambda self: None)
    before = {path.name: path.read_bytes() for path in finished.iterdir() if path.is_file() and path.name != ".lock"}
    arguments = {
        "evaluate": ["evaluate", str(finished)],
        "train": ["train", str(finished / "experiment.toml"), "--out", str(finished), "--resume", "--quiet"],
    }
    part = finished / f".results.json.{os.getpid()}.part"
    part.symlink_to("/dev/full")
    assert "results.json: No space left on device" in message(arguments[command], capsys)
    assert not part.is_symlink()
    after = {path.name: path.read_bytes() for path in finished.iterdir() if path.is_file() and path.name != ".lock"}
    assert after["results.json"] == before["results.json"]
    assert after.keys() == before.keys()
