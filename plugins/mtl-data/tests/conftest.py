"""Caches go to a folder of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("MTL_CACHE", str(folder))
    monkeypatch.delenv("MTL_CACHE_LIMIT", raising=False)
    return folder
