"""The real archive, where it is there: counts, ranges, and labels that agree with each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import loadmat

from mtl_core import Sample
from mtl_pascal_context import PascalContext
from mtl_pascal_context.tree import _find_tree

FLOORS = (158, 330, 244)
CEILING = 68
"""Floor, rug and mat; ceiling."""


def opened(real: Path, split: str = "train", **options: Any) -> Any:
    return PascalContext(**{"root": str(real), "resize": "pad", **options}).build_dataset(split)


@pytest.fixture(scope="module")
def samples(real: Path) -> list[Sample]:
    dataset = opened(real, tasks=("segmentation", "saliency", "edges"))
    return [dataset[i] for i in range(0, len(dataset), 100)]


def test_counts(real: Path) -> None:
    assert len(opened(real, "train", tasks=("segmentation",))) == 4998
    assert len(opened(real, "test", tasks=("segmentation",))) == 5105


def test_labels_say_something(samples: list[Sample]) -> None:
    classes = torch.stack([sample.targets["segmentation"] for sample in samples])
    assert len(classes.unique()) >= 15
    for sample in samples:
        inside = sample.targets["saliency"] >= 0
        assert 0.002 < sample.targets["edges"][0][inside].mean() < 0.2
    salient = torch.stack([sample.targets["saliency"] for sample in samples])
    assert 0.05 < (salient == 1).sum() / (salient >= 0).sum() < 0.6


def test_parts_are_of_persons(real: Path) -> None:
    dataset = opened(real, tasks=("parts", "segmentation"))
    share = dataset.labelled[:, 0].float().mean()
    assert 0.2 < share < 0.6
    agreed = []
    for index in dataset.labelled[:, 0].nonzero()[:40, 0].tolist():
        sample = dataset[index]
        marked = (sample.targets["parts"] > 0) & (sample.targets["segmentation"] >= 0)
        agreed.append((sample.targets["segmentation"][marked] == 15).float().mean())
    assert torch.stack(agreed).nanmean() > 0.85


def vertical(real: Path, numbers: tuple[int, ...], most: int = 25) -> float:
    """Mean y of the normals of some classes, over images that have them."""
    dataset = opened(real, tasks=("normals",))
    found: list[float] = []
    for index, name in enumerate(dataset.names):
        label_map = loadmat(_find_tree(real) / "pascal-context" / "trainval" / f"{name}.mat")["LabelMap"]
        marked = np.isin(label_map, numbers)
        if marked.mean() < 0.05:
            continue
        normals = dataset[index].targets["normals"]
        height, width = label_map.shape
        top = (512 - height) // 2
        left = (512 - width) // 2
        found.append(float(normals[1, top : top + height, left : left + width][torch.from_numpy(marked)].mean()))
        if len(found) == most:
            break
    return float(np.mean(found))


def test_normals_face_the_camera(real: Path) -> None:
    dataset = opened(real, tasks=("normals",))
    normals = torch.stack([dataset[i].targets["normals"] for i in range(0, 4998, 250)])
    assert (normals[:, 2][normals.norm(dim=1) > 0.5] < 0).float().mean() > 0.9


def test_floors_point_up_and_ceilings_down(real: Path) -> None:
    """What the sign of y was inferred for. If this fails, the default of normals_axes must be x, -y, -z."""
    assert vertical(real, FLOORS) < -0.3
    assert vertical(real, (CEILING,)) > 0.3
