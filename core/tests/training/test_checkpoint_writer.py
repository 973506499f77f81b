"""Checkpoints that are written while training goes on."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from mtl_core.training import checkpoint_writer
from mtl_core.training.checkpoint import load_checkpoint, save_checkpoint
from mtl_core.training.checkpoint_writer import CheckpointWriter


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Nothing is written before it opens."""
    opened = threading.Event()

    def save(path: Path, state: Any) -> None:
        assert opened.wait(30)
        save_checkpoint(path, state)

    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", save)
    return opened


def test_what_is_written_is_what_was_handed_over(tmp_path: Path, gate: threading.Event) -> None:
    weights = torch.ones(3)
    state = {"weights": weights, "rows": [(["a"], weights * 2)], "epoch": 1}
    writer = CheckpointWriter()
    writer.write({tmp_path / "last.ckpt": state})
    weights += 5  # training goes on
    assert not (tmp_path / "last.ckpt").exists()
    gate.set()
    writer.wait()
    found = load_checkpoint(tmp_path / "last.ckpt")
    assert torch.equal(found["weights"], torch.ones(3))
    names, row = found["rows"][0]
    assert (names, row.tolist(), found["epoch"]) == (["a"], [2.0, 2.0, 2.0], 1)


def test_files_appear_in_their_order_and_share_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int]] = []
    monkeypatch.setattr(
        checkpoint_writer, "save_checkpoint", lambda path, state: seen.append((path.name, state["w"].data_ptr()))
    )
    weights = torch.ones(3)
    with CheckpointWriter() as writer:
        writer.write({tmp_path / "best.ckpt": {"w": weights}, tmp_path / "last.ckpt": {"w": weights, "epoch": 2}})
    assert [name for name, _ in seen] == ["best.ckpt", "last.ckpt"]
    assert seen[0][1] == seen[1][1] != weights.data_ptr()


def test_an_error_is_raised_at_the_next_write(tmp_path: Path) -> None:
    writer = CheckpointWriter()
    missing = tmp_path / "file" / "last.ckpt"
    (tmp_path / "file").write_text("no folder")
    writer.write({missing: {"w": torch.ones(1)}})
    with pytest.raises(OSError, match="file"):
        writer.write({tmp_path / "last.ckpt": {"w": torch.ones(1)}})
    writer.write({tmp_path / "last.ckpt": {"w": torch.ones(1)}})
    writer.wait()
    assert (tmp_path / "last.ckpt").exists()


def test_an_error_is_raised_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")

    def training() -> None:
        with CheckpointWriter() as writer:
            writer.write({tmp_path / "file" / "last.ckpt": {}})

    with pytest.raises(OSError, match="file"):
        training()


def test_what_ended_the_training_is_what_is_raised(tmp_path: Path) -> None:
    """And the checkpoint before it is complete when the folder is given up."""
    (tmp_path / "file").write_text("no folder")

    def training(path: Path) -> None:
        with CheckpointWriter() as writer:
            writer.write({path: {"w": torch.ones(1000)}})
            raise ValueError("stopped")

    for path in (tmp_path / "last.ckpt", tmp_path / "file" / "last.ckpt"):
        with pytest.raises(ValueError, match="stopped"):
            training(path)
    assert load_checkpoint(tmp_path / "last.ckpt")["w"].shape == (1000,)
