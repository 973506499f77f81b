"""Checkpoints that were damaged or are of another run."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from mtl_core import CheckpointError, ContractError, load_checkpoint
from mtl_core.training.checkpoint import check_optimizer_state, save_checkpoint


def test_a_flipped_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    save_checkpoint(path, {"step": {"weight": torch.arange(4096.0)}})
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="checksum"):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [b"", b"PK", b"nothing at all", b"\x80\x04."])
def test_files_that_are_no_archive(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "last.ckpt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        load_checkpoint(path)


def adam() -> torch.optim.Optimizer:
    network = nn.Linear(3, 2)
    made = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    made.step()
    return made


def test_an_optimizers_own_state_fits() -> None:
    check_optimizer_state(Path("x.ckpt"), adam().state_dict(), adam())


def test_an_optimizer_state_of_other_shapes_is_refused() -> None:
    wrong = adam().state_dict()
    wrong["state"][0]["exp_avg"] = torch.zeros(7)
    with pytest.raises(CheckpointError, match=r"exp_avg of parameter 0 has shape \(7,\), expected \(2, 3\)"):
        check_optimizer_state(Path("x.ckpt"), wrong, adam())


@pytest.mark.parametrize("state", [None, {}, {"state": {}, "param_groups": []}, {"state": [], "param_groups": {}}])
def test_what_is_no_optimizer_state_is_refused(state: object) -> None:
    with pytest.raises(CheckpointError, match="optimizer state"):
        check_optimizer_state(Path("x.ckpt"), state, adam())


@pytest.mark.parametrize("value", [Path("x"), {1, 2}, object(), torch.float32])
def test_a_state_that_could_not_be_read_again_is_refused_when_it_is_written(tmp_path: Path, value: object) -> None:
    with pytest.raises(ContractError, match=r"at plugins\.mine\.state"):
        save_checkpoint(tmp_path / "last.ckpt", {"plugins": {"mine": {"state": value}}})
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")
def test_a_full_disk_is_an_error_of_the_system_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    save_checkpoint(path, {"a": torch.zeros(3)})
    whole = path.read_bytes()
    (tmp_path / f".last.ckpt.{os.getpid()}.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device") as caught:
        save_checkpoint(path, {"a": torch.zeros(100_000)})
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    assert path.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [path]
