"""``mtl data show`` and ``mtl data check``, on a data-set plugin that reads files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import mtl_data
from mtl_core import BinaryEdges, Classification, Depth, MtlError, Normals, Regression, Segmentation
from mtl_data import check as checking
from mtl_data.check import check_split
from mtl_data.commands import app
from mtl_data.drawing import _palette, colours, legend, limits_of
from mtl_data.show import look_at, sheet
from mtl_data.sources import Source, source
from mtl_data.statistics import LabelStatistics, what_is_wrong

H = 12
W = 16
TRAIN = 9
TEST = 4

PLUGIN = '''
"""A data set of files: SPLIT/N_image.png, N_classes.png, N_depth.png; a label that is not there is missing."""

from pathlib import Path

import numpy as np
import torch

from mtl_core import DataError, Depth, Sample, Segmentation, Tasks, hookimpl, plugin
from mtl_data import metres, read_picture, read_rgb

TASKS = Tasks([Segmentation(name="classes", channels=3, classes=("wall", "floor", "cup")), Depth(name="depth")])
read = []


@plugin
class Files:
    root: str
    tasks: tuple[str, ...] = ("classes", "depth")
    cache: bool = True

    @hookimpl
    def build_dataset(self, split: str):
        if split not in ("train", "test"):
            raise DataError(f"files: there is no split {split!r}")
        return Folder(Path(self.root) / split, self.tasks, self.cache)


class Folder:
    def __init__(self, folder, tasks, cache):
        self.folder, self.tasks, self.cache = folder, TASKS.select(tasks), cache
        self.names = sorted(path.name.partition("_")[0] for path in folder.glob("*_image.png"))
        rows = [[self.file(i, name).is_file() for name in self.tasks.names] for i in range(len(self.names))]
        self.labelled = torch.tensor(rows).view(-1, len(self.tasks))

    def file(self, index, kind):
        return self.folder / f"{self.names[index]}_{kind}.png"

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        read.append(index)
        assert not self.cache, "a check reads files"
        image = read_rgb(self.file(index, "image"))
        targets = {}
        for k, name in enumerate(self.tasks.names):
            if self.labelled[index, k]:
                values = read_picture(self.file(index, name), ("L",), "a grey picture")
                targets[name] = metres(values / 10) if name == "depth" else torch.from_numpy(values.astype(int) - 1)
        return Sample(image, targets)
'''


def write(root: Path, split: str, count: int) -> None:
    (root / split).mkdir(parents=True)
    for i in range(count):
        rng = np.random.default_rng([i, len(split)])
        files = {
            "image": rng.integers(256, size=(H, W, 3), dtype=np.uint8),
            "classes": rng.integers(4, size=(H, W), dtype=np.uint8),
            "depth": rng.integers(100, size=(H, W), dtype=np.uint8),
        }
        for kind, values in files.items():
            Image.fromarray(values).save(root / split / f"{i}_{kind}.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Nine training and four test images; training image 4 has no depth."""
    write(tmp_path / "data", "train", TRAIN)
    write(tmp_path / "data", "test", TEST)
    (tmp_path / "data" / "train" / "4_depth.png").unlink()
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A distribution with the plugin ``files``, a cache folder of the test's own, and small chunks."""
    about = tmp_path / "site" / "mtl_files-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mtl-files\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[mtl.plugins]\nfiles = mtl_files:Files\n")
    (tmp_path / "site" / "mtl_files.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.delitem(sys.modules, "mtl_files", raising=False)
    monkeypatch.setenv("MTL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(checking, "_CHUNK", 2)
    return SimpleNamespace(cache=tmp_path / "cache")


Run = Callable[..., tuple[int, Any]]


@pytest.fixture
def run(root: Path) -> Run:
    """Run a command with --json in this process; exit code and report."""

    def call(command: str, *arguments: object) -> tuple[int, Any]:
        options = [command, "files", "--set", f"root={root}", "--json", *map(str, arguments)]
        result = CliRunner().invoke(app, options, catch_exceptions=False)
        return result.exit_code, json.loads(result.stdout)

    return call


def checked(run: Run, *arguments: object) -> tuple[int, Any]:
    return run("check", "--workers", 0, *arguments)


def pixels(root: Path, split: str, kind: str) -> np.ndarray[Any, Any]:
    return np.stack([np.asarray(Image.open(path)) for path in sorted((root / split).glob(f"*_{kind}.png"))])


def files_read() -> list[int]:
    found: list[int] = sys.modules["mtl_files"].read
    return found


def test_a_whole_data_set_is_counted(root: Path, run: Run) -> None:
    code, report = checked(run)
    assert code == 0
    train = report["splits"]["train"]
    assert (train["samples"], train["sizes"], train["broken"]) == (TRAIN, {f"{H} × {W}": TRAIN}, [])
    classes = pixels(root, "train", "classes")
    depth = pixels(root, "train", "depth") / 10
    label = train["labels"]["classes"]
    assert label["classes"]["cup"] == {"pixels": int((classes == 3).sum()), "labels": TRAIN}
    assert label["valid"] == pytest.approx((classes > 0).mean())
    label = train["labels"]["depth"]
    assert (label["labels"], label["empty"], label["unit"]) == (TRAIN - 1, 0, "m")
    assert label["low"] == pytest.approx([depth[depth > 0].min()])
    assert label["high"] == pytest.approx([depth.max()])
    assert label["mean"] == pytest.approx([depth[depth > 0].mean()], rel=1e-5)
    assert report["splits"]["test"]["samples"] == TEST
    assert report["shared"] == []


def test_workers_find_the_same(run: Run) -> None:
    alone = checked(run)
    assert run("check", "--workers", 2) == alone


def test_every_broken_file_is_told(root: Path, run: Run, tmp_path: Path) -> None:
    """Two of one sample, each with its reason."""
    (root / "train" / "3_classes.png").write_bytes(b"no image")
    (root / "train" / "3_depth.png").write_bytes((root / "train" / "3_depth.png").read_bytes()[:-40])
    (root / "train" / "5_image.png").write_bytes(b"")
    Image.fromarray(np.full((H, W), 9, np.uint8)).save(root / "test" / "0_classes.png")
    code, report = checked(run, "--out", tmp_path / "report.json")
    assert code == 1
    broken = report["splits"]["train"]["broken"]
    assert [one["name"] for one in broken] == ["3", "3", "5"]
    assert [Path(one["reason"].partition(": ")[0]).name for one in broken] == [
        "3_classes.png",
        "3_depth.png",
        "5_image.png",
    ]
    assert all("cannot be read as an image" in one["reason"] for one in broken)
    assert report["splits"]["test"]["broken"] == [
        {"index": 0, "name": "0", "reason": "classes: class 8, expected −1 to 2"}
    ]
    assert report["splits"]["train"]["labels"]["classes"]["labels"] == TRAIN - 2
    assert json.loads((tmp_path / "report.json").read_text("utf-8")) == report


def test_broken_files_are_listed_in_the_terminal(root: Path) -> None:
    (root / "train" / "3_classes.png").write_bytes(b"no image")
    result = CliRunner().invoke(app, ["check", "files", "--set", f"root={root}", "--workers", "0"])
    assert result.exit_code == 1
    assert f"broken: train 3: {root}/train/3_classes.png: cannot be read as an image" in result.stdout
    assert result.stdout.rstrip().endswith("1 broken")


def test_images_of_two_splits_are_found_by_their_content(root: Path, run: Run) -> None:
    shutil.copy(root / "test" / "2_image.png", root / "train" / "7_image.png")
    code, report = checked(run)
    assert code == 0
    assert report["shared"] == [{"splits": ["train", "test"], "images": 1, "examples": [["7", "2"]]}]


def test_images_that_a_split_repeats_are_found(root: Path, run: Run) -> None:
    for name in ("5", "8"):
        shutil.copy(root / "train" / "1_image.png", root / "train" / f"{name}_image.png")
    row = {"splits": ["train", "train"], "images": 2, "examples": [["1", "5"], ["1", "8"]]}
    assert checked(run)[1]["shared"] == [row]


def test_an_interrupted_check_goes_on(root: Path, run: Run, installed: SimpleNamespace) -> None:
    def stop(done: int, of: int, broken: int) -> None:
        if done >= 6:
            raise KeyboardInterrupt

    made = source("files", [f"root={root}"]).changed(cache=False)
    with pytest.raises(KeyboardInterrupt):
        check_split(made, "train", 0, watch=stop)
    (state,) = installed.cache.glob("check-files-train-*.jsonl")
    with state.open("a") as file:
        file.write('{"first": 6, "samp')
    files_read().clear()
    found = check_split(made, "train", 0)
    assert files_read() == [6, 7, 8]
    assert (found.earlier, found.samples) == (6, TRAIN)
    state.unlink()
    assert found.report() == check_split(made, "train", 0).report()


def test_a_stop_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checking, "check_split", stop)
    result = CliRunner().invoke(app, ["check", "files", "--set", f"root={root}"])
    assert result.exit_code == 130
    assert "stopped; the same command goes on where it was" in result.stderr


def test_after_a_repair_only_what_was_broken_is_read_again(root: Path, run: Run, installed: SimpleNamespace) -> None:
    path = root / "train" / "3_classes.png"
    whole = path.read_bytes()
    path.write_bytes(b"")
    assert checked(run)[0] == 1
    path.write_bytes(whole)
    files_read().clear()
    code, report = checked(run)
    assert (code, files_read()) == (0, [2, 3])
    assert report["splits"]["train"]["samples"] == TRAIN
    assert list(installed.cache.glob("check-*")) == []
    files_read().clear()
    checked(run)
    assert len(files_read()) == TRAIN + TEST


def test_fresh_reads_everything(root: Path, run: Run) -> None:
    (root / "train" / "3_classes.png").write_bytes(b"")
    checked(run)
    files_read().clear()
    checked(run, "--fresh")
    assert set(files_read()) == set(range(TRAIN))
    assert len(files_read()) >= TRAIN + TEST


def test_splits_are_chosen(run: Run) -> None:
    assert list(checked(run, "--split", "test")[1]["splits"]) == ["test"]
    with pytest.raises(MtlError, match="there is no split 'val'"):
        checked(run, "--split", "val")


def test_a_mistake_of_the_data_set_is_a_finding(root: Path) -> None:
    class Wrong:
        tasks = None
        names = labelled = None

        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> Any:
            raise ZeroDivisionError("no zero")

    plugin = source("files", [f"root={root}"]).plugin
    Wrong.tasks = sys.modules["mtl_files"].TASKS
    made = Source("files", plugin)
    part = checking._Reader(made, "train", Wrong())[0]
    assert (0, "ZeroDivisionError: no zero") in part.broken


def test_a_sheet_is_written(root: Path, run: Run, tmp_path: Path) -> None:
    code, report = run("show", "--set", "cache=false", "--samples", 3, "--out", tmp_path / "new" / "sheet.png")
    assert code == 0
    assert report["shown"] == ["0", "3", "6"]
    assert report["labels"]["depth"]["labels_in_split"] == TRAIN - 1
    classes = pixels(root, "train", "classes")[[0, 3, 6]]
    assert report["labels"]["classes"]["classes"]["wall"]["pixels"] == (classes == 1).sum()
    picture = np.asarray(Image.open(report["file"]))
    assert picture.shape[1] > 3 * 192
    for colour in _palette(3):
        assert (picture == colour).all(-1).sum() > 100


def test_a_missing_label_is_drawn_as_such(root: Path) -> None:
    made = source("files", [f"root={root}", "cache=false"])
    shown = look_at(made, "train", TRAIN)
    assert [label is None for label in shown.columns[1].labels] == [i == 4 for i in range(TRAIN)]
    assert (np.asarray(sheet(shown, "t")) == (220, 220, 220)).all(-1).sum() > 1000


def test_the_terminal_has_units_and_shares(root: Path, tmp_path: Path) -> None:
    options = ["--set", f"root={root}", "--set", "cache=false", "--out", str(tmp_path / "a.png")]
    result = CliRunner().invoke(app, ["show", "files", *options], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    for part in ("files, train: 9 samples, 6 shown", "9, 6 shown", "9.9 m", "cup", "picture"):
        assert part in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "filez", "--set", "root=x"], 'no plugin of this name is installed; did you mean "files"'),
        (["show", "files", "--set", "rot=x"], 'unknown option; did you mean "root"'),
        (["check", "files"], "root: missing"),
        (["show", "files", "--set", "root=nowhere"], "the train split has no sample"),
    ],
)
def test_mistakes_are_one_message(arguments: list[str], message: str) -> None:
    error = CliRunner().invoke(app, arguments).exception
    assert isinstance(error, MtlError)
    assert message in str(error)


def test_a_picture_that_cannot_be_written(root: Path, tmp_path: Path) -> None:
    options = ["show", "files", "--set", f"root={root}", "--set", "cache=false", "--out", str(tmp_path / "a.txt")]
    error = CliRunner().invoke(app, options).exception
    assert isinstance(error, MtlError)
    assert "a.txt: cannot be written" in str(error)


def test_the_command_is_loaded_without_torch() -> None:
    code = "import sys, mtl_data.commands; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_name_of_the_package_is_there() -> None:
    assert {name for names in mtl_data._HOMES.values() for name in names} == set(mtl_data.__all__)
    assert all(callable(getattr(mtl_data, name)) for name in mtl_data.__all__)


def test_statistics_add_up() -> None:
    task = Regression(name="map", channels=2)
    one = torch.tensor([[[1.0, 2.0]], [[3.0, float("nan")]]])
    two = torch.tensor([[[7.0, 8.0]], [[-1.0, 5.0]]])
    both = LabelStatistics()
    for label in (one, two, torch.full((2, 1, 2), float("nan"))):
        both.add(LabelStatistics.of(task, label))
    assert (both.labels, both.empty, both.valid, both.pixels) == (3, 1, 3, 6)
    assert (both.low, both.high, both.total) == ([1, -1], [8, 5], [16, 7])


def test_a_class_per_image_is_counted() -> None:
    task = Classification(name="kind", channels=3, classes=("cat", "dog", "cow"))
    both = LabelStatistics()
    for label in (1, 1, 2, -1):
        both.add(LabelStatistics.of(task, torch.tensor(label)))
    assert (both.class_pixels, both.empty, both.share) == ([0, 2, 1], 1, 0.75)
    assert LabelStatistics().report(task)["classes"]["cow"] == {"pixels": 0, "labels": 0}
    assert what_is_wrong(task, torch.tensor(1), (4, 4)) is None
    assert what_is_wrong(task, torch.tensor(3), (4, 4)) == "class 3, expected −1 to 2"


@pytest.mark.parametrize(
    ("task", "label", "message"),
    [
        (Depth(name="d"), torch.ones(4, 4), "torch.float32 of shape (4, 4), expected torch.float32 of shape (1, 4, 4)"),
        (Segmentation(name="s", channels=2), torch.ones(4, 4), "expected torch.int64"),
        (Normals(name="n"), torch.full((3, 4, 4), 0.7), "normals of length 1.21 to 1.21, expected 1"),
        (BinaryEdges(name="e"), torch.ones(1, 3, 4), "expected torch.float32 of shape (1, 4, 4)"),
    ],
)
def test_labels_of_another_form_are_told(task: Any, label: torch.Tensor, message: str) -> None:
    assert message in (what_is_wrong(task, label, (4, 4)) or "")


def test_colours_mean_what_the_legend_says() -> None:
    depth = Depth(name="d")
    edges = Regression(name="e", channels=1)
    ramp = torch.linspace(1, 5, 16).view(1, 1, 16).repeat(1, 4, 1)
    drawn = colours(depth, ramp, (1.0, 5.0)).astype(int)
    assert (drawn[:, 0] < drawn[:, -1]).all()
    assert colours(edges, ramp, (1.0, 5.0))[0, [0, -1]].tolist() == [[0] * 3, [255] * 3]
    low, high = limits_of(depth, [ramp, 2 * ramp])
    assert 1 <= low < 1.5
    assert 9 < high <= 10
    ramp[..., :8] = 0
    grey = colours(depth, ramp, (1.0, 5.0))[:, :8]
    assert set(np.unique(grey)) == {70, 100}
    for task in (depth, edges, Normals(name="n"), Segmentation(name="s", channels=60)):
        picture = np.asarray(legend(task, LabelStatistics(), (0.0, 1.0), 192))
        assert picture.shape[1] == 192
        assert (picture < 255).any()
