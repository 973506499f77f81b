"""``mtl data``: what it prints and writes, and that it overwrites nothing."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from typing import Any

import numpy as np
import pytest

from mtl_core import parse_experiment
from mtl_folder.commands import main


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    shown = capsys.readouterr()
    return int(stop.value.code or 0), shown.out, shown.err


def test_init_writes_a_description_that_opens(table: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = table.root / "mtl-folder.toml"
    path.unlink()
    code, out, _ = run(capsys, "init", table.root)
    assert code == 0
    assert out.startswith(f"{path} is written; read its guesses")
    assert "8 images, 24 × 32 pixels: photos/{name}.jpg" in out
    assert "species: classification (6 of 8 rows, 2 classes)" in out
    assert f"mtl data check {table.root}" in out
    assert tomllib.loads(path.read_text("utf-8"))["images"] == "photos/{name}.jpg"
    assert table.open()


def test_the_experiment_that_it_prints_can_be_built(table: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (table.root / "mtl-folder.toml").unlink()
    table.picture("photos/a.jpg", np.zeros((10, 20, 3), np.uint8))
    _, out, _ = run(capsys, "init", table.root)
    text = out.partition("for example:\n")[2]
    tables = tomllib.loads(text)["plugins"]
    assert tables["folder"] == {"root": str(table.root), "size": [24, 32]}
    needed = {name: tables[name] for name in ("full", "segnet")}
    assert needed == {"full": {}, "segnet": {}}
    alone = f'name = "x"\n[plugins.folder]\nroot = "{table.root}"\nsize = [24, 32]\n'
    assert parse_experiment(alone, "x").plugins["folder"].size == (24, 32)  # type: ignore[attr-defined]


def test_init_keeps_what_is_there(table: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = table.root / "mtl-folder.toml"
    before = path.read_text("utf-8")
    code, out, err = run(capsys, "init", table.root)
    assert (code, out) == (2, "")
    assert err == f"mtl: {path}: is there already and is kept; --show prints what would be written\n"
    assert path.read_text("utf-8") == before
    code, out, _ = run(capsys, "init", table.root, "--show")
    assert code == 0
    assert tomllib.loads(out)["csv"] == {"file": "labels.csv", "key": "image"}
    assert path.read_text("utf-8") == before


def test_init_without_images_writes_nothing(tree: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "init", tree.root)
    assert code == 2
    assert "no images in it" in err
    assert not list(tree.root.iterdir())


def test_it_runs_as_a_module(table: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mtl_folder", "init", str(table.root), "--show"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert tomllib.loads(done.stdout)["tasks"]["weight"]["kind"] == "image-regression"


def test_help_imports_no_torch() -> None:
    code = "import sys, mtl_folder.commands, mtl_folder; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
