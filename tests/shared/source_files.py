"""Files of the repository that belong to no distribution, as modules."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]


def import_file(path: Path) -> ModuleType:
    """The module in a file. It is known by the file's stem, so that what it defines can be pickled and found again.

    A test that must not leave it behind removes it: ``monkeypatch.delitem(sys.modules, path.stem)``.
    """
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module
