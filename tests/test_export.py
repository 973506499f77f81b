"""Real networks as files and at other sizes: SegNet's unpooling by indices, heads that give one size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mtl_core import load_experiment, load_network, train
from mtl_export.export import export_run

SETTINGS = 'name = "n"\nepochs = 1\ndevice = "cpu"\nbatch_size = 2\nvalidation = 0.0\n[plugins.full]\n'
DATA = "[plugins.scenes]\nsize = [32, 48]\ntrain = 2\ntest = 1\n"


def trained(network: str, folder: Path) -> Path:
    (folder / "x.toml").write_text(f"{SETTINGS}{DATA}{network}", "utf-8")
    return train(load_experiment(folder / "x.toml"), folder / "run").folder


@pytest.mark.slow
def test_a_graph_of_segnet_at_another_size(tmp_path: Path) -> None:
    run = trained("[plugins.segnet]\nwidth = 4\n", tmp_path)
    file = export_run(run, "torch-export", size=(64, 40)).file
    images = torch.rand(4, 3, 64, 40)
    own = load_network(run)(images)
    found = dict(zip(own, torch.export.load(file).module()(images), strict=True))
    assert found["depth"].shape == (4, 1, 64, 40)
    assert torch.allclose(own["depth"], found["depth"], atol=1e-4)


def test_heads_of_one_size_are_made_for_the_size_of_the_images(tmp_path: Path) -> None:
    run = trained('[plugins.smp]\nencoder = "resnet18"\nweights = "none"\nhead_channels = 16\n', tmp_path)
    network = load_network(run)
    one, other, again = (network(torch.rand(1, 3, *size)) for size in ((32, 48), (50, 70), (32, 48)))
    assert one["depth"].shape == again["depth"].shape == (1, 1, 32, 48)
    assert other["segmentation"].shape == (1, 50, 70)
