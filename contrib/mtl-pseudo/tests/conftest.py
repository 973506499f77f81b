"""Toy plugins as if they were installed, small models with weights in files, and a folder for labels."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

TOYS = {"toydata": "ToyData", "toylabels": "ToyLabels", "toynetwork": "ToyNetwork"}


@pytest.fixture(scope="module", autouse=True)  # not the session's: another distribution's tests would find them
def installed_toys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A distribution whose plugins are core's toys: `of` and run folders name plugins that are installed."""
    site = tmp_path_factory.mktemp("site")
    about = site / "toys-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    lines = [f"{name} = mtl_core.testing:{cls}" for name, cls in TOYS.items()]
    (about / "entry_points.txt").write_text("\n".join(["[mtl.plugins]", *lines, ""]))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        importlib.invalidate_caches()
        yield


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MTL_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    torch.set_num_threads(1)
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a small classifier of 7 classes: timm's test_resnet."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "resnet.pth"
    torch.save(timm.create_model("test_resnet", num_classes=7).state_dict(), path)
    return path


@pytest.fixture
def source(resnet: Path) -> dict[str, Any]:
    """The table of a pseudo-task with soft labels."""
    return {"model": "timm:test_resnet", "weights": str(resnet), "classes": 7, "size": [64, 64]}


@pytest.fixture(scope="session")
def real() -> Path:
    folder = Path(os.environ.get("MTL_DATA", Path(__file__).parents[4] / "shared" / "data"))
    if not (folder / "nyuv2").is_dir() or not (folder / "weights").is_dir():
        pytest.skip("no real data: set MTL_DATA to a folder with nyuv2/ and weights/")
    return folder
