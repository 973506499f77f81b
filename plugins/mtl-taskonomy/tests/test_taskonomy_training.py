"""A run on views that lack labels: nothing that is missing reaches a loss."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest

from mtl_core import Experiment, train
from mtl_core.testing import ToyLabels, ToyNetwork
from mtl_taskonomy import Taskonomy
from mtl_taskonomy.domains import TASKS


@pytest.mark.slow
def test_it_trains_with_missing_labels(tree: Path, trees: SimpleNamespace, tmp_path: Path) -> None:
    for number, view in enumerate(trees.views):
        trees.file(tree, "buildings", view, trees.folders[1 + (number + 2) % 7]).unlink()
    data = Taskonomy(root=str(tree), incomplete=True, size=(16, 16), tasks=TASKS)
    experiment = Experiment(name="e", plugins=[data, ToyLabels(), ToyNetwork()], epochs=1, batch_size=2, validation=0.0)
    run = train(experiment, tmp_path / "run")
    (epoch,) = run.history()
    assert math.isfinite(epoch["train/loss"])
    active = [name for name in TASKS if epoch[f"train/active/{name}"]]
    assert active == list(TASKS[:6])
    assert all(epoch[f"train/loss/{name}"] > 0 for name in active)
    metrics = json.loads(run.results.read_text("utf-8"))["metrics"]
    assert {name.partition("/")[0] for name in metrics} == set(TASKS)
    assert metrics["depth/abs_err"] > 0
