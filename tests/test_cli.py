"""The command line: what it imports, what it prints, what it leaves."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mtl_core import cli, load_network
from mtl_core.settings.plugin_distributions import distribution_of_plugins

EXPERIMENT = """
name = "cli"
epochs = 2
batch_size = 4
device = "cpu"
learning_rate = 1e-3

[plugins.scenes]
size = [32, 32]
train = 12
test = 3
tasks = ["segmentation", "depth", "normals", "reshading"]
[plugins.onelabel]
[plugins.segnet]
width = 4
"""


def command(*arguments: object) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(a) for a in arguments])
    assert stopped.value.code == 0


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "cli.toml").write_text(EXPERIMENT)
    command("train", folder / "cli.toml", "--out", folder / "run", "--quiet")
    return folder / "run"


@pytest.mark.parametrize("arguments", [["--help"], ["plugins"], ["plugins", "--json"], ["train", "--help"]])
def test_help_and_listing_import_no_torch(arguments: list[str]) -> None:
    code = f"""
import sys
import tomllib
from mtl_core import cli
from mtl_core.settings.plugin_distributions import distribution_of_plugins
try:
    cli.main({arguments})
except SystemExit:
    pass
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("name", ["train", "evaluate", "compare", "predict", "plugins"])
def test_every_command_shows_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    command(name, "--help")
    assert f"Example: mtl {name}" in capsys.readouterr().out


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    capsys.readouterr()
    command(*arguments)
    return json.loads(capsys.readouterr().out)


def test_a_run_folder_holds_what_the_documentation_says(run: Path) -> None:
    files = "experiment.toml versions.json labels.npz metrics.jsonl last.ckpt best.ckpt results.json report.html"
    names = {*files.split(), "pictures", ".lock"}
    assert {p.name for p in run.iterdir()} - {"warnings.jsonl"} == names
    with np.load(run / "labels.npz") as saved:
        assert saved["labelled"].shape == (12, 4)
        assert saved["tasks"].tolist() == ["segmentation", "depth", "normals", "reshading"]
    epochs = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in epochs] == [0, 1]
    assert json.loads((run / "versions.json").read_text())["segnet"].startswith("mtl-backbones ")


def test_evaluate_gives_again_what_training_gave(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = json.loads((run / "results.json").read_text())["metrics"]
    found = printed(capsys, "evaluate", run, "--json")
    assert found == {"metrics": pytest.approx(before, rel=1e-5)}
    assert {"segmentation/miou", "depth/abs_err", "normals/mean_angle", "reshading/abs_err"} <= set(found["metrics"])


def test_evaluate_takes_the_best_checkpoint_and_other_data(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last = printed(capsys, "evaluate", run, "--json")
    other = printed(capsys, "evaluate", run, "--json", "--checkpoint", "best", "--set", "plugins.scenes.seed=7")
    assert other["metrics"].keys() == last["metrics"].keys()
    assert other != last
    command("evaluate", run)


def test_compare_in_its_json_form(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = printed(capsys, "compare", run, run, "--json")
    assert found["reference"] == "cli"
    (row,) = found["runs"]
    assert row["name"] == "cli"
    assert row["delta_percent"] == 0
    assert row["per_task"] == {"segmentation": 0, "depth": 0, "normals": 0, "reshading": 0}


def test_predict_writes_labels_and_a_picture(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.full((50, 70, 3), 90, np.uint8)).save(tmp_path / "photo.jpg")
    files = printed(capsys, "predict", run, tmp_path / "photo.jpg", "--out", tmp_path / "p", "--json")
    names = ["photo_segmentation.png", "photo_depth.png", "photo_normals.png", "photo_reshading.npy", "photo_all.png"]
    assert [Path(f).name for f in files] == names
    classes, depth, normals = (np.asarray(Image.open(f)) for f in files[:3])
    assert classes.shape == (32, 32)
    assert classes.max() < 13
    assert depth.dtype == np.uint16
    assert normals.shape == (32, 32, 3)
    assert np.load(files[3]).shape == (1, 32, 32)


def test_plugins_in_their_json_form(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row["name"]: row for row in printed(capsys, "plugins", "--json")}
    data = "scenes nyuv2"
    labels = "full onelabel randomlabels halflabels unlabelled split-file"
    expected = f"{data} {labels} segnet smp randaugment geometry jtr ial consistency"
    assert set(expected.split()) <= set(rows)
    assert rows["jtr"]["distribution"] == "mtl-jtr"
    assert rows["jtr"]["status"] == "unchecked"
    assert set(rows["jtr"]) == {"name", "place", "summary", "distribution", "version", "status", "reason", "hooks"}
    places = {name: row["place"] for name, row in rows.items()}
    assert all(places.values()), "every plugin has a place"
    assert all(row["summary"] for row in rows.values()), "every plugin says what it is"
    expected = {
        "scenes": "data set", "onelabel": "label scenario", "segnet": "network", "jtr": "regularizer",
        "uw": "loss rule", "ial": "gradient shaper", "randaugment": "photometry", "geometry": "geometry",
        "tensorboard": "logger",
    }  # fmt: skip
    assert {name: places[name] for name in expected} == expected


def test_plugins_stand_by_their_place(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "240")
    command("plugins")
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if " onelabel " in line]
    assert line.startswith("label scenario")
    assert "mtl-labels 0.1.0" in line
    numbers = [next(n for n, text in enumerate(lines) if f" {name} " in text) for name in ("scenes", "segnet", "uw")]
    assert numbers == sorted(numbers)


def test_the_table_of_known_plugins_is_that_of_the_repository() -> None:
    projects = [
        tomllib.loads(path.read_text("utf-8"))["project"]
        for kind in ("plugins", "contrib")
        for path in (Path(__file__).parents[1] / kind).glob("*/pyproject.toml")
    ]
    expected = {name: p["name"] for p in projects for name in p.get("entry-points", {}).get("mtl.plugins", {})}
    assert distribution_of_plugins() == expected, "correct it in core/src/mtl_core/settings/plugin_distributions.json"


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    command("--version")
    assert re.fullmatch(r"mtl \d+\.\d+\.\d+ \(torch [\d.+a-z]+, Python 3[\d.]+\)\n", capsys.readouterr().out)


@pytest.mark.parametrize("page", [(), ("train",), ("compare",), ("data",), ("data", "check")])
def test_flags_have_no_type(page: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    command(*page, "--help")
    shown = capsys.readouterr().out
    assert "--help" in shown
    assert "<bool>" not in shown


@pytest.mark.slow
@pytest.mark.timeout(900)  # a process per plugin
def test_every_installed_plugin_can_be_imported(capsys: pytest.CaptureFixture[str]) -> None:
    rows = printed(capsys, "plugins", "--hooks", "--json")
    assert {row["status"] for row in rows} == {"ok"}
    assert "shape_encoder_gradient" in next(row for row in rows if row["name"] == "ial")["hooks"]


def test_predict_at_the_size_of_each_image(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {"wide": (50, 70), "high": (90, 33)}
    for name, size in sizes.items():
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)).save(tmp_path / f"{name}.png")
    images = [tmp_path / f"{name}.png" for name in sizes]
    small = printed(capsys, "predict", run, *images, "--out", tmp_path / "small", "--json")
    printed(capsys, "predict", run, *images, "--out", tmp_path / "p", "--size", "original", "--json")
    for name, size in sizes.items():
        classes, depth = (np.asarray(Image.open(tmp_path / "p" / f"{name}_{t}.png")) for t in ("segmentation", "depth"))
        assert classes.shape == depth.shape == size
        assert np.load(tmp_path / "p" / f"{name}_reshading.npy").shape == (1, *size)
        before = np.asarray(Image.open(tmp_path / "small" / f"{name}_depth.png"))
        # enlarged, not predicted anew: values stay within those of the small prediction
        assert before.min() <= depth.min() <= depth.max() <= before.max()
    assert len(small) == 10


def test_predict_at_a_size_that_is_none(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["predict", str(run), str(tmp_path / "a.png"), "--size", "orignal"])
    assert stopped.value.code == 2
    assert '--size orignal: expected trained or original; did you mean "original"?' in capsys.readouterr().err


def test_load_network_from_a_folder(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = load_network(run)
    assert network.tasks.names == ("segmentation", "depth", "normals", "reshading")
    assert not any(module.training for module in network.modules())
    image = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / "a.png")
    printed(capsys, "predict", run, tmp_path / "a.png", "--out", tmp_path, "--json")
    found = network(image)
    assert np.array_equal(found["segmentation"].numpy(), np.asarray(Image.open(tmp_path / "a_segmentation.png")))
    assert np.allclose(found["reshading"].numpy(), np.load(tmp_path / "a_reshading.npy"))


@pytest.mark.parametrize("size", [(32, 32), (45, 77), (64, 96)])
def test_load_network_takes_any_size(run: Path, size: tuple[int, int]) -> None:
    network = load_network(run, "best")
    images = torch.rand(2, 3, *size)
    found = network(images)
    assert found["segmentation"].shape == (2, *size)
    assert found["depth"].shape == (2, 1, *size)
    assert torch.allclose(found["normals"].norm(dim=1), torch.ones(2, *size), atol=1e-4)
    soft = network.in_label_space(images)
    assert torch.equal(soft["segmentation"].argmax(1), found["segmentation"])
    assert torch.allclose(soft["segmentation"].sum(1), torch.ones(2, *size), atol=1e-4)


def test_load_network_pads_where_it_is_told_to(run: Path) -> None:
    image = torch.rand(1, 3, 40, 50)
    found = load_network(run, multiple_of=32)(image)
    padded = torch.nn.functional.pad(image, (0, 14, 0, 24), mode="replicate")
    assert torch.equal(found["depth"], load_network(run)(padded)["depth"][..., :40, :50])
