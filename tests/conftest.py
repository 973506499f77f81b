"""Fixtures for tests that cross distributions."""

import os
from pathlib import Path

import pytest
import torch

from mtl_core.testing.distributions import install

__all__ = ["data", "install"]

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _one_thread_and_a_seed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data beside the checkout, or ``MTL_DATA``."""
    folder = Path(os.environ.get("MTL_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real data: set MTL_DATA to a folder with nyuv2/ and label-splits/")
    return folder
