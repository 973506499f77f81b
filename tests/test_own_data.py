"""The tutorial on own data runs as it is written; one description gives the samples of another data set's plugin."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mtl_core import DataError
from mtl_core.testing import main
from mtl_folder import Folder
from mtl_folder.init import describe
from mtl_nyuv2 import NYUv2

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "tutorial-own-data.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def call(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run one command of the page in this process."""
    program, *arguments = shlex.split(command)
    if program == "python":
        monkeypatch.setattr(sys, "argv", [arguments[0], *arguments[1:]])
        runpy.run_path(str(ROOT / arguments[0]), run_name="__main__")
        return
    assert program == "mtl"
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert not stop.value.code, command


def test_the_tutorial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    draw, init, check, train = blocks("bash")
    guessed, described, experiment = blocks("toml")
    call(draw, monkeypatch)
    call(init, monkeypatch)
    written = Path("leaves/mtl-folder.toml")
    assert written.read_text("utf-8") == guessed
    assert describe("leaves") == guessed
    written.write_text(described, "utf-8")
    call(check, monkeypatch)
    shown = capsys.readouterr().out
    assert "leaves, train: 120 samples; images of 64 × 64 (120)" in shown
    assert "nothing is broken" in shown
    Path("leaves.toml").write_text(experiment, "utf-8")
    for command in train.splitlines():
        call(command + (" --set epochs=2 --quiet" if " train " in command else ""), monkeypatch)
    results = json.loads(Path("runs/leaves/results.json").read_text("utf-8"))
    assert {"parts/miou", "species/top1", "damage/abs_err", "damage/r2"} <= set(results["metrics"])
    assert all(value is not None for value in results["metrics"].values())
    names = {"leaf-003_parts.png", "leaf-003_species.npy", "leaf-003_damage.npy", "leaf-003_all.png"}
    assert {path.name for path in Path("predictions").iterdir()} == names


def test_the_message_that_the_tutorial_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    call(blocks("bash")[0], monkeypatch)
    Path("leaves/mtl-folder.toml").write_text(blocks("toml")[1], "utf-8")
    for path in Path("leaves/masks").iterdir():
        mask = np.array(Image.open(path))
        mask[0, :] = 255
        Image.fromarray(mask).save(path)
    with pytest.raises(DataError) as caught:
        Folder(root="leaves", check=None).build_dataset("train")
    shown = re.search(r"^    (leaves/masks.*?)\n\n", PAGE, re.MULTILINE | re.DOTALL)
    assert shown is not None
    assert str(caught.value) == re.sub(r"\n\s+", " ", shown[1])


def test_check_reads_every_mask_of_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    call(blocks("bash")[0], monkeypatch)
    Path("leaves/mtl-folder.toml").write_text(blocks("toml")[1], "utf-8")
    last = max(Path("leaves/masks").iterdir())
    Image.fromarray(np.full((64, 64), 9, np.uint8)).save(last)
    with pytest.raises(SystemExit) as stop:
        main(["data", "check", "leaves"])
    assert stop.value.code == 2
    assert f'{last}: task "parts": ids that are no class: 9 (100 % of the pixels)' in capsys.readouterr().err


def test_nyuv2_by_a_description_is_nyuv2() -> None:
    root = Path(os.environ.get("MTL_DATA", ROOT.parent / "shared" / "data")) / "nyuv2"
    if not root.is_dir():
        pytest.skip("no NYU-v2: set MTL_DATA to a folder with nyuv2/")
    by_plugin = NYUv2(root=str(root), cache=False).build_dataset("test")
    classes = by_plugin.tasks["segmentation"].classes  # type: ignore[attr-defined]
    by_description = Folder(
        root=str(root),
        images="{split}/image",
        tasks={
            "segmentation": {
                "kind": "segmentation",
                "files": "{split}/label",
                "classes": {name: i for i, name in enumerate(classes, 1)},
                "ignored": 0,
            },
            "depth": {"kind": "depth", "files": "{split}/depth", "unit": "mm"},
            "normals": {"kind": "normals", "files": "{split}/normal"},
        },
    ).build_dataset("test")
    assert list(by_description.names or ()) == list(by_plugin.names or ())
    assert list(by_description.tasks) == list(by_plugin.tasks)
    for index in range(0, len(by_plugin), 60):
        mine = by_description[index]
        theirs = by_plugin[index]
        assert torch.equal(mine.image, theirs.image)
        assert all(torch.equal(mine.targets[name], theirs.targets[name]) for name in theirs.targets)
