"""No pickle runs anything: not by naming a function, not by changing one, not by way of numpy."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtl_core import DataError, Regression, Tasks
from mtl_labels import SplitFile, pickles
from mtl_labels.pickles import Refused, _unpickled

NAMES = ["a", "b"]
ROW = [1, 0, 0, 0, 0]


class Calls:
    """Pickles to a call of a function when it is read."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def touch(path: Path) -> Calls:
    return Calls(os.mkdir, str(path))


def np_load(path: Path) -> Calls:
    return Calls(np.load, str(path))


def np_memmap(path: Path) -> Calls:
    return Calls(np.memmap, str(path), "u1", "w+", 0, (1,))


def evaluated(path: Path) -> Calls:
    return Calls(eval, f"__import__('os').mkdir({str(path)!r})")


def imported(path: Path) -> Calls:
    return Calls(__import__, "antigravity")


ATTACKS = {"os": touch, "eval": evaluated, "import": imported, "numpy.load": np_load, "numpy.memmap": np_memmap}


def inside(attack: Any, where: str) -> Any:
    return {"value": {"a": attack, "b": ROW}, "key": {"a": ROW, "b": [attack]}, "whole": attack}[where]


def refused(path: Path) -> str:
    tasks = Tasks([Regression(name="segmentation", channels=1)])
    with pytest.raises(DataError) as caught:
        SplitFile(path=str(path)).make_label_mask(2, tasks, NAMES)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("where", ["value", "key", "whole"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_npy_that_calls(tmp_path: Path, attack: str, where: str) -> None:
    trace = tmp_path / "trace"
    np.save(tmp_path / "a.npy", np.array(inside(ATTACKS[attack](trace), where), dtype=object), allow_pickle=True)
    found = refused(tmp_path / "a.npy")
    assert "it asks for " in found
    assert "no code is run from a split file" in found
    assert not trace.exists()


@pytest.mark.parametrize("where", ["value", "key", "whole"])
@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pth_that_calls(tmp_path: Path, attack: str, where: str, zipped: bool) -> None:
    trace = tmp_path / "trace"
    path = tmp_path / "a.pth"
    torch.save(inside(ATTACKS[attack](trace), where), path, _use_new_zipfile_serialization=zipped)
    assert "no code is run from a split file" in refused(path)
    assert not trace.exists()


def test_an_archive_that_only_looks_like_torchs(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"a": touch(trace)}))
    refused(path)
    assert not trace.exists()


def assembled(*parts: bytes) -> bytes:
    """A pickle of protocol 2 from its opcodes."""
    return b"\x80\x02" + b"".join(parts) + b"."


TEXT = b"X\x01\x00\x00\x00a"
RAW: dict[str, tuple[bytes, str]] = {
    "a function is changed": (
        assembled(b"cnumpy\ndtype\n", b"}", TEXT, TEXT, b"s", b"b"), "it changes a function",
    ),
    "a function is changed by its slots": (
        assembled(b"cnumpy\ndtype\n", b"N}", TEXT, TEXT, b"s\x86", b"b"), "it changes a function",
    ),
    "ndarray is called": (assembled(b"cnumpy\nndarray\n", b"(K\x05t", b"R"), "by calling numpy.ndarray"),
    "the old way to call": (assembled(b"(", TEXT, b"ios\nsystem\n"), "it asks for os.system"),
    "a dotted name": (assembled(b"cnumpy\ndtype.__init__\n"), r"it asks for numpy.dtype.__init__"),
    "a tensor's storage": (assembled(TEXT, b"Q"), "it holds tensors"),
    "bytes in another encoding": (
        assembled(b"c_codecs\nencode\n", b"(", TEXT, TEXT, b"t", b"R"), "bytes in the encoding 'a'",
    ),
    "a type without text": (
        assembled(b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(X\x01\x00\x00\x00OtRK\x01tR"), "type 'O'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", RAW)
def test_what_is_made_by_hand(case: str) -> None:
    data, message = RAW[case]
    with pytest.raises(Refused, match=message):
        _unpickled(io.BytesIO(data))


def test_an_array_of_numbers_in_an_object(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array({"semseg": np.arange(3)}, dtype=object), allow_pickle=True)
    assert "it holds an array of something else than objects" in refused(tmp_path / "a.npy")


def test_several_objects(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"semseg": NAMES}], dtype=object), allow_pickle=True)
    assert "it holds an array of objects, not one object" in refused(tmp_path / "a.npy")


def test_a_file_that_is_too_large_to_be_a_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "_LARGEST", 100)
    np.save(tmp_path / "a.npy", np.array({"semseg": NAMES}, dtype=object), allow_pickle=True)
    assert "bytes, more than a split needs" in refused(tmp_path / "a.npy")
    torch.save(dict.fromkeys(NAMES, ROW * 50), tmp_path / "a.pth")
    with pytest.raises(Refused, match="more than a split needs"):
        pickles.read_archive(tmp_path / "a.pth")


VALUES = [
    np.str_("2008_000002"), np.str_("ä€"), np.int64(-5), np.uint8(200), np.float32(0.5), np.float64(-1e9),
    np.bool_(True), 3, 2.5, "text", [1, (2, 3)], {"a": None}, np.str_("swapped").astype(">U7"),
    np.int16(-2).astype(">i2"),
]  # fmt: skip


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_plain_values_are_what_numpy_and_python_wrote(value: Any, protocol: int) -> None:
    found = _unpickled(io.BytesIO(pickle.dumps(value, protocol)))
    assert found == value
    assert type(found) in (str, int, float, bool, list, dict)


@pytest.mark.parametrize("damage", range(0, 300, 7))
def test_no_damage_gives_another_error(tmp_path: Path, damage: int) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.array({"semseg": [np.str_(name) for name in NAMES]}, dtype=object), allow_pickle=True)
    data = bytearray(path.read_bytes())
    data[damage % len(data)] ^= 1 + damage % 255
    path.write_bytes(data)
    tasks = Tasks([Regression(name="segmentation", channels=1)])
    message = f"{path}: "
    try:
        SplitFile(path=str(path)).make_label_mask(2, tasks, NAMES)
    except DataError as error:
        message = str(error)
    assert message.startswith(f"{path}: ")
