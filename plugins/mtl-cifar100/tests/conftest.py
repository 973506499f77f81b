"""Small files in the original form: pickles as Python 2 wrote them."""

from __future__ import annotations

import io
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtl_cifar100.domains import DOMAIN_OF, DOMAINS, FINE

Content = dict[bytes, Any]


class Python2Pickler(pickle._Pickler):
    """Writes what Python 2 and the numpy of that time wrote: byte strings, and numpy's modules by their old names."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_string(self, value: bytes) -> None:
        short = len(value) < 256
        head = (
            pickle.SHORT_BINSTRING + bytes([len(value)]) if short else pickle.BINSTRING + struct.pack("<i", len(value))
        )
        self.write(head + value)
        self.memoize(value)

    def save_text(self, value: str) -> None:
        self.save_string(value.encode("latin1"))

    def save_function(self, value: Any, name: str | None = None) -> None:
        module = value.__module__.replace("numpy._core", "numpy.core")
        self.write(pickle.GLOBAL + f"{module}\n{value.__qualname__}\n".encode())
        self.memoize(value)

    dispatch[bytes], dispatch[str] = save_string, save_text
    save_global = save_function


def as_python_2(value: Any) -> bytes:
    file = io.BytesIO()
    Python2Pickler(file, 2).dump(value)
    return file.getvalue()


def content(split: str, images: int) -> Content:
    """Images of all hundred classes, turn by turn; the first pixel's red is the image's number."""
    rng = np.random.default_rng(split == "test")
    data = rng.integers(256, size=(images, 3072), dtype=np.uint8)
    data[:, 0] = np.arange(images) % 256
    fine = [(7 * number + 3) % 100 for number in range(images)]
    return {
        b"batch_label": b"training batch 1 of 1",
        b"fine_labels": fine,
        b"coarse_labels": [DOMAIN_OF[label] for label in fine],
        b"data": data,
        b"filenames": [f"{FINE[label]}_s_{number % 3:06d}.png".encode() for number, label in enumerate(fine)],
    }


def meta() -> Content:
    names = {b"fine_label_names": FINE, b"coarse_label_names": DOMAINS}
    return {key: [name.encode() for name in values] for key, values in names.items()}


@pytest.fixture(scope="session")
def make() -> Callable[[str, int], Content]:
    return content


@pytest.fixture(scope="session")
def write() -> Callable[[Any], bytes]:
    return as_python_2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as the archive unpacks it, with 100 training images and as many test images."""
    made = tmp_path / "cifar-100-python"
    made.mkdir()
    for name, value in (("train", content("train", 100)), ("test", content("test", 100)), ("meta", meta())):
        (made / name).write_bytes(as_python_2(value))
    return made


@pytest.fixture(scope="session")
def real() -> Path:
    folder = Path(os.environ.get("MTL_DATA", Path(__file__).parents[4] / "shared" / "data")) / "cifar-100-python"
    if not folder.is_dir():
        pytest.skip("no CIFAR-100: set MTL_DATA to a folder with cifar-100-python/")
    return folder
