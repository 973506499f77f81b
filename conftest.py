"""What holds for the tests of every distribution."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def _cache_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Tests keep decoded samples in a folder that goes with them, not in the user's."""
    before, folder = os.environ.get("MTL_CACHE"), tmp_path_factory.mktemp("cache")
    os.environ["MTL_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["MTL_CACHE"]
    else:
        os.environ["MTL_CACHE"] = before


@pytest.fixture(scope="module", autouse=True)
def _path_as_it_was() -> Iterator[None]:
    """A folder that a file's tests leave on ``sys.path`` would give its plugins to the tests behind it."""
    before = list(sys.path)
    yield
    left = [folder for folder in sys.path if folder not in before]
    assert not left, f"tests left {', '.join(left)} on sys.path"
