"""A run's trained network, from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mtl_core.errors import CheckpointError
from mtl_core.hooks.relay import Hooks
from mtl_core.testing import make_tasks
from mtl_core.testing.toys import ToyNetwork
from mtl_core.training.saved_tasks import tasks_to_plain
from mtl_core.training.session import build_network
from mtl_core.training.trained import network_from, unknown_checkpoint
from mtl_core.training.trained_network import load_network


def test_a_folder_that_is_no_run_and_a_checkpoint_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a run folder"):
        load_network(tmp_path)
    with pytest.raises(CheckpointError, match='checkpoint bets: expected last or best; did you mean "best"'):
        load_network(tmp_path, "bets")


def state(**changes: Any) -> dict[str, Any]:
    """Of a checkpoint, as far as a network is made from it."""
    network = build_network(1, HOOKS, TASKS, (8, 8))
    step = {f"network.{name}": value for name, value in network.state_dict().items()}
    return {"tasks": tasks_to_plain(TASKS), "image_size": [8, 8], "step": step} | changes


HOOKS = Hooks({"network": ToyNetwork()}, required=())
TASKS = make_tasks()


def test_a_network_has_the_weights_and_the_size_of_its_checkpoint() -> None:
    saved = state()
    network, size = network_from(HOOKS, saved, Path("x.ckpt"))
    assert size == (8, 8)
    assert not network.training
    assert all(torch.equal(value, saved["step"][f"network.{name}"]) for name, value in network.state_dict().items())


def test_averages_go_before_the_weights_of_the_last_step() -> None:
    average = {name: value + 1 for name, value in build_network(1, HOOKS, TASKS, (8, 8)).state_dict().items()}
    network, _ = network_from(HOOKS, state(ema={"network": average}), Path("x.ckpt"))
    assert all(torch.equal(value, average[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("size", [None, [8], [8, 0], [8, 8.0], [True, 8], "88", [2**14, 2**14]])
def test_an_image_size_that_is_none(size: object) -> None:
    with pytest.raises(CheckpointError, match=r"^x\.ckpt: image size .*; expected \(height, width\)"):
        network_from(HOOKS, state(image_size=size), Path("x.ckpt"))


def test_a_checkpoint_without_weights() -> None:
    with pytest.raises(CheckpointError, match=r"^x\.ckpt: holds no weights; expected a checkpoint that `mtl train`"):
        network_from(HOOKS, state(step=3), Path("x.ckpt"))


def test_a_name_that_no_checkpoint_has() -> None:
    assert unknown_checkpoint("--checkpoint", "lst") == (
        '--checkpoint lst: expected last or best; did you mean "last"?'
    )
