"""A run's trained network, from its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtl_core.errors import CheckpointError
from mtl_core.training.trained_network import load_network


def test_a_folder_that_is_no_run_and_a_checkpoint_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a run folder"):
        load_network(tmp_path)
    with pytest.raises(CheckpointError, match='checkpoint bets: expected last or best; did you mean "best"'):
        load_network(tmp_path, "bets")
