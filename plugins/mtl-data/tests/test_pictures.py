"""Pictures and arrays: what is read, and what is refused."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtl_core import DataError
from mtl_data import read_array, read_picture, read_rgb


def test_grey_becomes_three_channels(tmp_path: Path) -> None:
    Image.new("L", (3, 2), 7).save(tmp_path / "a.png")
    assert read_rgb(tmp_path / "a.png").shape == (3, 2, 3)


def test_sixteen_bits_stay(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 3), 40000, np.uint16)).save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png", ("I;16", "I"), "depth").max() == 40000


@pytest.mark.parametrize("name", ["missing.png", "damaged.png", "rgb.png"])
def test_refused_pictures_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "damaged.png").write_bytes(b"\x89PNG nothing")
    Image.new("RGB", (3, 2)).save(tmp_path / "rgb.png")
    with pytest.raises(DataError, match=name):
        read_picture(tmp_path / name, ("L",), "classes")


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(DataError, match=r"a\.npy"):
        read_array(tmp_path / "a.npy", "depth (H, W, 1)", 1)


@pytest.mark.parametrize("read", [lambda path: read_rgb(path), lambda path: read_array(path, "an array")])
def test_a_pipe_is_not_waited_for(tmp_path: Path, read: Callable[[Path], object]) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="pipe: not a regular file; expected "):
        read(tmp_path / "pipe")
    with pytest.raises(DataError, match="none: no such file; expected "):
        read(tmp_path / "none")
