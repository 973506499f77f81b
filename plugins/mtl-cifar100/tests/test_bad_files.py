"""What a person reads when a file is missing, damaged, another one, or would run code."""

from __future__ import annotations

import builtins
import os
import pickle
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtl_cifar100 import CIFAR100
from mtl_cifar100.pickles import _KNOWN, read_pickle
from mtl_core import DataError


def message(root: Path, split: str = "train") -> str:
    with pytest.raises(DataError) as caught:
        CIFAR100(root=str(root)).build_dataset(split)
    return str(caught.value)


class Calls:
    """What an attacker puts into a pickle."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function = function
        self.arguments = arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


def untouched(*_: object) -> None:
    raise AssertionError("the file's code was run")


class TestCodeIsRefused:
    @pytest.mark.parametrize(
        ("function", "name"),
        [
            (os.system, "posix.system"),
            (subprocess.Popen, "subprocess.Popen"),
            (eval, "builtins.eval"),
            (getattr, "builtins.getattr"),
            (np.load, "numpy.load"),
            (np.frombuffer, "numpy.frombuffer"),
            (bytearray, "builtins.bytearray"),
        ],
    )
    @pytest.mark.parametrize("protocol", [2, 4])
    def test_by_name(self, folder, tmp_path, function, name, protocol):
        mark = tmp_path / "was-here"
        value = {b"data": Calls(function, f"touch {mark}")}
        (folder / "train").write_bytes(pickle.dumps(value, protocol))
        found = message(folder)
        assert "refused, because it asks for" in found
        assert name.rpartition(".")[2] in found
        assert "take the original file" in found
        assert not mark.exists()

    def test_in_meta_too(self, folder):
        (folder / "meta").write_bytes(pickle.dumps(Calls(os.system, "true"), 2))
        assert "meta: refused, because it asks for" in message(folder)

    def test_by_a_dotted_name_within_numpy(self, folder):
        (folder / "train").write_bytes(b"\x80\x04\x8c\x05numpy\x8c\x15ndarray.__reduce_ex__\x93.")
        assert "refused" in message(folder)

    def test_the_marker_of_an_array_cannot_be_called(self, folder):
        (folder / "train").write_bytes(b"\x80\x02cnumpy\nndarray\n(K\x05tR.")
        assert "cannot be read as a pickle" in message(folder)

    def test_arrays_of_objects(self, folder):
        value = {b"data": np.array([{}, []], dtype=object)}
        (folder / "train").write_bytes(pickle.dumps(value, 2))
        assert "refused, because it holds an array of object" in message(folder)

    def test_what_is_known_calls_nothing_outside_the_reader(self):
        assert all(isinstance(v, str) or v.__module__ == "mtl_cifar100.pickles" for v in _KNOWN.values())

    def test_no_import_is_made_for_a_name(self, folder, monkeypatch):
        (folder / "train").write_bytes(b"cantigravity\nfly\n(tR.")
        plain = builtins.__import__

        def watched(name: str, *rest: Any, **more: Any) -> Any:
            assert name != "antigravity"
            return plain(name, *rest, **more)

        monkeypatch.setattr(builtins, "__import__", watched)
        assert "antigravity.fly" in message(folder)


class TestFolders:
    def test_absent(self, tmp_path):
        found = message(tmp_path / "gone")
        assert "gone: no such folder" in found
        assert "unpack cifar-100-python.tar.gz" in found

    def test_empty(self, tmp_path):
        assert "a folder without them; expected the files train, test and meta" in message(tmp_path)

    def test_the_archive_itself(self, tmp_path):
        (tmp_path / "cifar-100-python.tar.gz").write_bytes(b"\x1f\x8b")
        assert "a file; expected the files" in message(tmp_path / "cifar-100-python.tar.gz")

    def test_one_file_missing(self, folder):
        (folder / "train").unlink()
        assert "train: no such file; expected CIFAR-100's original file" in message(folder)
        assert len(CIFAR100(root=str(folder)).build_dataset("test")) == 100


class TestContent:
    def damaged(self, folder: Path, write: Any, make: Any, **changes: Any) -> str:
        value = make("train", 20)
        for key, change in changes.items():
            value[key.encode()] = change
        (folder / "train").write_bytes(write(value))
        return message(folder)

    @pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
    def test_cut_off(self, folder, share):
        content = (folder / "train").read_bytes()
        (folder / "train").write_bytes(content[: int(share * len(content))])
        assert "train: cannot be read as a pickle" in message(folder)
        assert "copy it again" in message(folder)

    def test_something_else(self, folder):
        (folder / "train").write_bytes(b"a text file\n")
        assert "cannot be read as a pickle" in message(folder)

    def test_no_dict(self, folder):
        (folder / "train").write_bytes(pickle.dumps([1, 2], 2))
        assert "holds a list, expected CIFAR-100's original file" in message(folder)

    def test_cifar_10(self, folder, write):
        (folder / "train").write_bytes(write({b"data": np.zeros((2, 3072), "u1"), b"labels": [0, 1]}))
        assert "without fine_labels, coarse_labels; it has data, labels" in message(folder)

    @pytest.mark.parametrize(
        ("data", "form"),
        [
            (np.zeros((20, 3072), np.float32), r"float32 (20, 3072)"),
            (np.zeros((20, 784), np.uint8), r"uint8 (20, 784)"),
            (np.zeros((20, 32, 32, 3), np.uint8), r"uint8 (20, 32, 32, 3)"),
            ([0] * 20, "a list"),
        ],
    )
    def test_other_pixels(self, folder, write, make, data, form):
        found = self.damaged(folder, write, make, data=data)
        assert f"data is {form}, expected uint8 (N, 3072)" in found

    def test_no_image(self, folder, write, make):
        found = self.damaged(folder, write, make, data=np.zeros((0, 3072), np.uint8), fine_labels=[], coarse_labels=[])
        assert "holds no image" in found

    @pytest.mark.parametrize("key", ["fine_labels", "coarse_labels"])
    @pytest.mark.parametrize(
        ("labels", "reason"),
        [
            ([0] * 19, "of shape (19,) for 20 images"),
            ([*[0] * 19, 100], "from 0 to 100"),
            ([*[0] * 19, -1], "from -1 to 0"),
            ([b"cat"] * 20, "no whole numbers"),
        ],
    )
    def test_other_labels(self, folder, write, make, key, labels, reason):
        assert f"{key}" in (found := self.damaged(folder, write, make, **{key: labels}))
        assert reason in found

    def test_labels_that_contradict_each_other(self, folder, write, make):
        coarse = make("train", 20)[b"coarse_labels"]
        coarse[3] = (coarse[3] + 1) % 20
        found = self.damaged(folder, write, make, coarse_labels=coarse)
        assert "image 3 has the fine label 24 (cockroach) and the coarse label 8, expected 7 (insects)" in found
        assert "1 images differ" in found

    def test_another_meta(self, folder, write):
        names = [b"apple", b"banana"]
        (folder / "meta").write_bytes(write({b"fine_label_names": names}))
        found = message(folder)
        assert "meta: fine_label_names are not CIFAR-100's: number 1 of 2 is ['banana']" in found
        assert "expected ['aquarium_fish']" in found


def test_the_reader_says_what_is_missing(tmp_path):
    with pytest.raises(DataError, match=r"gone: no such file; expected a dict"):
        read_pickle(tmp_path / "gone", "a dict")
