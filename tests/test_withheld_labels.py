"""``mtl train`` opens no file of a label that the experiment withholds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtl_core.testing import main, opened_files

H, W = 32, 48
FOLDERS = {"segmentation": "label", "depth": "depth", "normals": "normal"}

EXPERIMENT = """
name = "withheld"
epochs = 2
batch_size = 2
validation = 0.25
[plugins.nyuv2]
root = "ROOT"
[plugins.onelabel]
[plugins.segnet]
width = 2
"""


def write(root: Path, split: str, count: int) -> None:
    draw = np.random.default_rng(len(split))
    for number in range(count):
        files = {
            "image": draw.integers(256, size=(H, W, 3), dtype=np.uint8),
            "label": draw.integers(14, size=(H, W), dtype=np.uint8),
            "depth": draw.integers(500, 9000, size=(H, W)).astype(np.uint16),
            "normal": draw.integers(60, 196, size=(H, W, 3), dtype=np.uint8),
        }
        for kind, values in files.items():
            path = root / split / kind / f"{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(path)


def run(arguments: list[str]) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MTL_CACHE", str(tmp_path / "cache"))
    made = tmp_path / "data"
    write(made, "train", 9)
    write(made, "test", 2)
    (tmp_path / "x.toml").write_text(EXPERIMENT.replace("ROOT", str(made)), "utf-8")
    return made


@pytest.mark.parametrize("cache", ["true", "false"])
def test_labels_that_are_withheld_may_be_unreadable(root: Path, tmp_path: Path, cache: str) -> None:
    file, options = tmp_path / "x.toml", ["--quiet", "--set", f"plugins.nyuv2.cache={cache}"]
    with opened_files(root / "train") as opened:
        assert run(["train", str(file), "--out", str(tmp_path / "first"), *options]) in (0, None)
    mask = np.load(tmp_path / "first" / "labels.npz")
    tasks = [str(name) for name in mask["tasks"]]
    given = {f"{FOLDERS[tasks[k]]}/{i:04d}.png" for i, k in zip(*mask["labelled"].nonzero(), strict=True)}
    assert len(given) == 9
    assert {path.as_posix() for path in opened if path.parts[0] != "image"} == given
    for path in (root / "train").rglob("*.png"):
        name = path.relative_to(root / "train").as_posix()
        if name not in given and not name.startswith("image/"):
            path.write_bytes(b"damaged")
    assert run(["train", str(file), "--out", str(tmp_path / "second"), *options]) in (0, None)
    first, second = (json.loads((tmp_path / name / "results.json").read_text("utf-8")) for name in ("first", "second"))
    assert first["metrics"] == second["metrics"]
