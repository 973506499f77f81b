"""Real files, where they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def lite0() -> Path:
    """EfficientNet-Lite0 trained on ImageNet, under timm's names."""
    folder = Path(os.environ.get("MTL_DATA", Path(__file__).parents[4] / "shared" / "data"))
    path = folder / "weights" / "tf_efficientnet_lite0.pth"
    if not path.is_file():
        pytest.skip("no pretrained encoder: set MTL_DATA to a folder with weights/tf_efficientnet_lite0.pth")
    return path
