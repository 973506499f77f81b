"""A run from the files to the results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mtl_core import Experiment, Tasks, hookimpl, plugin, train
from mtl_core.testing import ToyNetwork
from mtl_pascal_context import PascalContext

METRICS = {
    "segmentation/miou", "parts/miou", "normals/mean_angle", "saliency/miou", "saliency/max_f", "edges/ods_f",
}  # fmt: skip


@plugin
class EveryLabel:
    """Every sample carries every label."""

    @hookimpl
    def make_label_mask(self, size: int, tasks: Tasks) -> Tensor:
        return torch.ones(size, len(tasks), dtype=torch.bool)


@pytest.mark.parametrize("options", [{}, {"resize": "pad", "size": (40, 40), "edge_metric": "exact"}])
def test_all_five_tasks(tree: Path, tmp_path: Path, options: dict[str, object]) -> None:
    plugins = [PascalContext(**{"root": str(tree), "size": (32, 32), **options}), EveryLabel(), ToyNetwork()]
    experiment = Experiment(name="e", plugins=plugins, epochs=1, batch_size=3, validation=0.0)
    run = train(experiment, tmp_path / "run")
    results = json.loads(run.results.read_text("utf-8"))
    assert set(results["metrics"]) >= METRICS
    assert results["headline"]["edges/ods_f"] is True
    assert all(0 <= results["metrics"][name] <= 180 for name in METRICS)
    (record,) = run.history()
    assert record["train/loss/edges"] > 0
    assert record["train/labels/parts"] == pytest.approx(2 / 3)  # an image without a person has no parts
    assert record["train/labels/edges"] == 1


def test_a_network_can_learn_it(tree: Path, tmp_path: Path) -> None:
    """The losses of all tasks fall on the images that are trained on."""
    plugins = [PascalContext(root=str(tree), size=(32, 32)), EveryLabel(), ToyNetwork()]
    experiment = Experiment(name="e", plugins=plugins, epochs=40, batch_size=3, validation=0.0, learning_rate=1e-2)
    history = train(experiment, tmp_path / "run", evaluate_on=None).history()
    for task in ("segmentation", "parts", "normals", "saliency", "edges"):
        assert history[-1][f"train/loss/{task}"] < 0.98 * history[0][f"train/loss/{task}"], task
