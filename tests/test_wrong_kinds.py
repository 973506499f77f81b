"""A folder where a run has a file, a file where it has a folder, and links that lead nowhere: one message each."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from tiny_runs import EXPERIMENT

from mtl_core import MtlError, load_network
from mtl_core.testing import command

FILES = ["experiment.toml", "metrics.jsonl", "results.json", "labels.npz", "last.ckpt", "versions.json"]
"""Files of a run that a command reads or writes."""
COMMANDS = {
    "experiment.toml": "evaluate",
    "metrics.jsonl": "resume",
    "results.json": "evaluate",
    "labels.npz": "resume",
    "last.ckpt": "evaluate",
    "versions.json": "resume",
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kinds")
    (folder / "x.toml").write_text(EXPERIMENT, "utf-8")
    assert command("train", folder / "x.toml", "--out", folder / "run", "--quiet") == 0
    return folder / "run"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def ended_with(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one message of a command that fails."""
    code = command(*arguments)
    shown = capsys.readouterr().err
    assert code, shown
    assert "Traceback" not in shown
    assert shown.count("mtl: ") == 1, shown
    return shown


def arguments(run: Path, command: str) -> list[str]:
    if command == "resume":
        file = run.parent / "again.toml"
        if not file.exists():
            file.write_text(EXPERIMENT.replace("epochs = 1", "epochs = 2"), "utf-8")
        return ["train", str(file), "--out", str(run), "--resume", "--quiet"]
    return [command, str(run)]


@pytest.mark.parametrize("name", FILES)
def test_a_folder_in_place_of_a_file(run: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (run / name).unlink()
    (run / name).mkdir()
    assert name in ended_with(arguments(run, COMMANDS[name]), capsys)


@pytest.mark.parametrize("name", FILES)
def test_a_link_that_leads_to_itself(run: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (run / name).unlink()
    (run / name).symlink_to(run / name)
    if name in ("metrics.jsonl", "results.json", "versions.json"):  # written anew, in place of the link
        command(*arguments(run, COMMANDS[name]))
        assert (run / name).is_file()
        assert not (run / name).is_symlink()
        return
    assert ended_with(arguments(run, COMMANDS[name]), capsys)


def test_a_label_mask_that_is_gone_is_not_drawn_anew(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "labels.npz").unlink()
    shown = ended_with(arguments(run, "resume"), capsys)
    assert "labels.npz: missing, although last.ckpt is there" in shown
    assert not (run / "labels.npz").exists()


def test_a_file_in_place_of_the_run_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").write_text("mine", "utf-8")
    (tmp_path / "x.toml").write_text(EXPERIMENT, "utf-8")
    shown = ended_with(["train", str(tmp_path / "x.toml"), "--out", str(tmp_path / "run"), "--quiet"], capsys)
    assert str(tmp_path / "run") in shown
    assert (tmp_path / "run").read_text("utf-8") == "mine"


def test_a_name_that_is_too_long(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.toml").write_text(EXPERIMENT, "utf-8")
    shown = ended_with(["train", str(tmp_path / "x.toml"), "--out", str(tmp_path / ("a" * 300)), "--quiet"], capsys)
    assert "File name too long" in shown


@pytest.mark.parametrize("size", [[10**9, 10**9], [0, 4], "large", [32]])
def test_an_image_size_that_no_memory_holds(run: Path, size: object) -> None:
    state = torch.load(run / "last.ckpt", weights_only=True)
    torch.save(state | {"image_size": size}, run / "last.ckpt")
    with pytest.raises(MtlError, match=r"last\.ckpt: .*image"):
        load_network(run)
