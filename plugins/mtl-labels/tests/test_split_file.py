"""Label masks from files: every form, the published splits, and what a damaged or foreign file gives."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mtl_core import DataError, Regression, Tasks
from mtl_labels import SplitFile, Unlabelled

TABLE = np.eye(3)[[0, 1, 2, 1]]
MASK = torch.tensor(TABLE).bool()
NAMES = [f"img{i}" for i in range(4)]
CSV = "index,t0,t1,t2\n0,1,0,0\n1,0,1,0\n2,0,0,1\n3,0,1,0\n"
TASKS = ("t0", "t1", "t2")


def split(path: Path, columns: tuple[str, ...] = (), order: tuple[str, ...] = TASKS, names: Any = None) -> Tensor:
    tasks = Tasks([Regression(name=name, channels=1) for name in order])
    made: Tensor = SplitFile(path=str(path), columns=columns).make_label_mask(4, tasks, names)
    return made


def save_pth(path: Path) -> None:
    torch.save({"labels_weights": torch.tensor(TABLE)}, path)


def save_npy(path: Path) -> None:
    np.save(path, TABLE)


def save_npz(path: Path) -> None:
    np.savez(path, labelled=TABLE.astype(bool)[:, [2, 0, 1]], tasks=["t2", "t0", "t1"])


def save_by_index(path: Path) -> None:
    """Rows and columns in another order than the data's."""
    path.write_text("index, t2, t0, t1\n3,0,0,1\n\n2,1,0,0\n0,0,1,0\n1,0,0,1\n")


def save_by_name(path: Path) -> None:
    path.write_text("name,t0,t1,t2\nimg3.png,0,1,0\nimg1,no,YES,\nimg0,true,false,0.0\nimg2.jpg,0,0,1.0\n", "utf-8-sig")


FORMS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "pth": ("split.pth", save_pth),
    "npy": ("split.npy", save_npy),
    "labels.npz of a run": ("labels.npz", save_npz),
    "csv by index": ("split.csv", save_by_index),
    "csv by name": ("split.csv", save_by_name),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_says_the_same(tmp_path: Path, form: str) -> None:
    file, save = FORMS[form]
    save(tmp_path / file)
    assert torch.equal(split(tmp_path / file, names=NAMES), MASK)


@pytest.mark.parametrize("form", FORMS)
def test_columns_follow_the_tasks(tmp_path: Path, form: str) -> None:
    """By the file's own names, or by the option's; the file may have a task that the experiment leaves out."""
    file, save = FORMS[form]
    save(tmp_path / file)
    named = form not in ("pth", "npy")
    found = split(tmp_path / file, () if named else TASKS, order=("t2", "t0"), names=NAMES)
    assert torch.equal(found, MASK[:, [2, 0]])


def test_integers_and_booleans_are_numbers(tmp_path: Path) -> None:
    for kind in (bool, np.int8, np.float32):
        np.save(tmp_path / "a.npy", TABLE.astype(kind))
        assert torch.equal(split(tmp_path / "a.npy"), MASK)


def test_a_share_of_a_published_split(tmp_path: Path) -> None:
    save_npy(tmp_path / "a.npy")
    plugin = Unlabelled(share=0.5, rest="split-file", path=str(tmp_path / "a.npy"), columns=("t1", "t0", "t2"))
    tasks = Tasks([Regression(name=name, channels=1) for name in TASKS])
    found = plugin.make_label_mask(4, tasks, torch.Generator().manual_seed(0), None)
    kept = found.any(1)
    assert kept.sum() == 2
    assert torch.equal(found[kept], MASK[kept][:, [1, 0, 2]])


WRONG_CSV = {
    "": "line 1: expected a header: index or name, then the tasks; found '' first",
    CSV.replace("index", "image"): "line 1: expected a header: index or name, then the tasks; found 'image' first",
    CSV.replace("t1", "t0"): "line 1: expected a column for each task and none twice, found t0, t0, t2",
    "index\n0\n1\n2\n3\n": "line 1: expected a column for each task",
    CSV.replace("t1", "t11"): "no column for the task 't1'; did you mean \"t11\"? (columns: t0, t11, t2)",
    CSV.replace("3,0,1,0", "3,0,maybe,0"): "line 5: expected 3 cells of 0 or 1, found 'maybe'",
    CSV.replace("3,0,1,0", "3,0,1"): "line 5: expected 3 cells of 0 or 1, found 2 of them",
    CSV.replace("3,0,1,0", "\n7,0,1,0"): "line 6: no training sample '7' (4 samples, the first is '0')",
    CSV.replace("3,0,1,0", "2,0,1,0"): "line 5: a second row for '2'; expected one row per sample",
    CSV.replace("3,0,1,0\n", ""): "3 of 4 training samples have a row; there is none for '3'",
    CSV.replace("index", "name"): "the data set gives its samples no names; use a column index",
    CSV.replace("t1", "\0", 1).replace("index", "index\x00"): "a.csv: ",
}


@pytest.mark.parametrize("text", WRONG_CSV, ids=list(WRONG_CSV.values()))
def test_a_wrong_csv_says_where_and_what(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        split(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert WRONG_CSV[text] in str(caught.value)


def test_a_name_that_is_nearly_right(tmp_path: Path) -> None:
    save_by_name(tmp_path / "a.csv")
    with pytest.raises(DataError, match=r"line 2: no training sample 'img3.png'; did you mean \"imag3\"\?"):
        split(tmp_path / "a.csv", names=["imag0", "imag1", "imag2", "imag3"])


def write_text(path: Path) -> None:
    path.write_text("no split")


def write_other_key(path: Path) -> None:
    torch.save({"weights": 1}, path)


def write_tensor(path: Path) -> None:
    torch.save(torch.ones(4, 3), path)


def write_code(path: Path) -> None:
    torch.save({"labels_weights": write_text}, path)


def write_truncated(path: Path) -> None:
    save_pth(path)
    path.write_bytes(path.read_bytes()[:-200])


def write_pickled(path: Path) -> None:
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def writer(array: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, array)

    return write


def write_npz_without_tasks(path: Path) -> None:
    np.savez(path, labelled=TABLE)


def tensor(make: Callable[[Tensor], Any]) -> Callable[[Path], None]:
    """A .pth whose labels_weights is made of the right table."""

    def write(path: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.save({"labels_weights": make(torch.tensor(TABLE))}, path)

    return write


def archive(**arrays: Any) -> Callable[[Path], None]:
    return lambda path: np.savez(path, **arrays)


def write_other_form(path: Path) -> None:
    """What another ending promises."""
    with path.open("wb") as file:
        if path.suffix == ".npz":
            np.save(file, TABLE)
        else:
            np.savez(file, labelled=TABLE, tasks=TASKS)


def write_changed_byte(path: Path) -> None:
    """One label is another one: the 1 of the third row."""
    save_pth(path)
    data = bytearray(path.read_bytes())
    data[data.index(torch.tensor(TABLE).numpy().tobytes()) + 8 * 8 + 7] ^= 0xFF
    path.write_bytes(bytes(data))


def quantized(table: Tensor) -> Tensor:
    return torch.quantize_per_tensor(table.float(), 1.0, 0, torch.quint8)


NO_PTH = 'expected a dict with "labels_weights" (N, K), as torch.save writes it'
WRONG_FILES: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "ending": ("a.txt", write_text, "a split file ends in .pth, .npy, .npz or .csv, found '.txt'"),
    "no ending": ("a", write_text, "found 'no ending'"),
    "text as .pth": ("a.pth", write_text, NO_PTH),
    "another key": ("a.pth", write_other_key, NO_PTH),
    "a bare tensor": ("a.pth", write_tensor, NO_PTH),
    "code in a .pth": ("a.pth", write_code, NO_PTH),
    "truncated": ("a.pth", write_truncated, NO_PTH),
    "text as .npy": ("a.npy", write_text, "expected an array of numbers (N, K)"),
    "objects": ("a.npy", write_pickled, "expected an array of numbers (N, K)"),
    "words": ("a.npy", writer([["a", "b"]]), "expected an array of numbers (N, K)"),
    "rows": ("a.npy", writer(TABLE[:3]), "shape (3, 3), expected (4, 3): a row per training sample"),
    "columns": ("a.npy", writer(TABLE[:, :2]), "shape (4, 2), expected (4, 3): a row per training sample"),
    "one axis": ("a.npy", writer(TABLE[0]), "shape (3,), expected (4, 3)"),
    "values": ("a.npy", writer(TABLE * 0.5), "values from 0 to 0.5, expected only 0 and 1"),
    "not finite": ("a.npy", writer(TABLE * np.nan), "values from nan to nan, expected only 0 and 1"),
    "no tasks": ("a.npz", write_npz_without_tasks, "expected arrays \"labelled\" (N, K) and \"tasks\" (K)"),
    "sparse": ("a.pth", tensor(Tensor.to_sparse), "is a sparse tensor (torch.sparse_coo); save it as a dense tensor"),
    "compressed rows": ("a.pth", tensor(Tensor.to_sparse_csr), "is a sparse tensor (torch.sparse_csr)"),
    "nested": ("a.pth", tensor(lambda t: torch.nested.nested_tensor([t[0], t[1][:2]])), "is a nested tensor"),
    "without values": ("a.pth", tensor(lambda t: t.to("meta")), "a tensor without values"),
    "complex": ("a.pth", tensor(lambda t: t.to(torch.complex64)), "a tensor of type torch.complex64"),
    "quantized": ("a.pth", tensor(quantized), "a tensor of type torch.quint8"),
    "text in a .pth": ("a.pth", tensor(lambda t: "labels"), NO_PTH),
    "nothing in a .pth": ("a.pth", tensor(lambda t: None), NO_PTH),
    "ragged": ("a.pth", tensor(lambda t: [[1, 0], [1]]), NO_PTH),
    "enormous and cheap": ("a.pth", tensor(lambda t: t[:1, :1].expand(10**6, 10**6)), "shape (1000000, 1000000)"),
    "no key": ("a.pth", lambda path: torch.save({}, path), "holds an empty dict"),
    "many keys": ("a.pth", lambda path: torch.save(dict.fromkeys(range(99)), path), "a dict with 0, 1, 2, 3, 4, …;"),
    "a changed byte": ("a.pth", write_changed_byte, "damaged (the checksum of its part"),
    "imaginary": ("a.npy", writer(TABLE.astype(complex)), "holds values of type complex128, which are no numbers"),
    "days": ("a.npy", writer(np.zeros((4, 3), "datetime64[D]")), "holds values of type datetime64[D]"),
    "a .npz as .npy": ("a.npy", write_other_form, "holds several arrays by name, as a .npz file does"),
    "a .npy as .npz": ("a.npz", write_other_form, "holds one array without a name"),
    "no table": ("a.npz", archive(tasks=TASKS), "has no array 'labelled' (it has: tasks)"),
    "one name": ("a.npz", archive(labelled=TABLE, tasks="depth"), "is an array () of type <U5, not a list of names"),
    "numbers as names": ("a.npz", archive(labelled=TABLE, tasks=[0, 1, 2]), "not a list of names"),
    "a name twice": ("a.npz", archive(labelled=TABLE, tasks=["t0", "t1", "t1"]), "names a task twice (t0, t1, t1)"),
    "words in a .npz": ("a.npz", archive(labelled=[["a"]], tasks=TASKS), "holds values of type <U1"),
    "a file without end": ("a.npy", lambda path: os.truncate(writer(TABLE)(path) or path, 3 << 30), "has 3.0 GiB"),
    "no file": ("a.npy", lambda path: os.mkfifo(path), "no file, but something else"),
    "not UTF-8": ("a.csv", writer(TABLE), "cannot be read as text"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_FILES)
def test_a_wrong_file_says_what_was_expected(tmp_path: Path, case: str) -> None:
    file, write, message = WRONG_FILES[case]
    write(tmp_path / file)
    with pytest.raises(DataError) as caught:
        split(tmp_path / file)
    assert str(caught.value).startswith(f"{tmp_path / file}: ")
    assert message in str(caught.value)


def test_an_archive_that_would_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeros compress a thousandfold: what counts is what a file unpacks to."""
    np.savez_compressed(tmp_path / "a.npz", labelled=np.zeros((1000, 30), dtype=bool), tasks=TASKS)
    monkeypatch.setattr("mtl_labels.arrays.LARGEST", 10_000)
    with pytest.raises(DataError, match=r"a\.npz: unpacks to 3 GiB, which no split does; expected arrays"):
        split(tmp_path / "a.npz")


def test_a_path_that_is_none() -> None:
    for path, message in {
        "/" + "a" * 5000: "File name too long",
        "~nobody-of-this-name/a.npy": "home directory",
    }.items():
        with pytest.raises(DataError, match=message):
            split(Path(path))


def test_a_data_set_that_gives_a_name_twice_needs_an_index(tmp_path: Path) -> None:
    save_by_name(tmp_path / "a.csv")
    with pytest.raises(DataError, match="two samples of the name 'img1'; use a column index"):
        split(tmp_path / "a.csv", names=["img0", "img1", "img1", "img3"])


def test_another_byte_order_and_other_numbers_are_read(tmp_path: Path) -> None:
    for kind in (">f4", ">i2", np.uint16, np.longdouble):
        np.save(tmp_path / "a.npy", TABLE.astype(kind))
        assert torch.equal(split(tmp_path / "a.npy"), MASK)
    for dtype in (torch.bfloat16, torch.uint16, torch.bool):
        torch.save(
            {"labels_weights": torch.tensor(TABLE).to(dtype).requires_grad_(dtype.is_floating_point)},
            tmp_path / "A.PTH",
        )
        assert torch.equal(split(tmp_path / "A.PTH"), MASK)


def test_a_missing_file_or_a_folder(tmp_path: Path) -> None:
    wrong = {tmp_path / "none.pth": r"no such file; .* to a \.pth", tmp_path: "a folder; .* to one of its files"}
    for path, message in wrong.items():
        with pytest.raises(DataError, match=message):
            split(path)


def test_what_a_pth_holds_instead_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.write_text("hello world\n")
    with pytest.raises(DataError, match=r"a\.pth: not a file that torch\.save writes; expected a dict with"):
        split(path)
    write_other_key(path)
    with pytest.raises(DataError, match=r"a\.pth: holds a dict with 'weights'; expected a dict with"):
        split(path)
    write_tensor(path)
    with pytest.raises(DataError, match=r"a\.pth: holds a Tensor; expected a dict with"):
        split(path)


def test_columns_that_do_not_fit(tmp_path: Path) -> None:
    save_npy(tmp_path / "a.npy")
    with pytest.raises(DataError, match=r"shape \(4, 3\), expected \(4, 2\): .* for each of t0, t1; .* say in columns"):
        split(tmp_path / "a.npy", ("t0", "t1"))
    with pytest.raises(DataError, match=r"no column for the task 't2'; did you mean \"tt2\""):
        split(tmp_path / "a.npy", ("t0", "t1", "tt2"))
    with pytest.raises(ValueError, match="every column once"):
        SplitFile(path="a.npy", columns=("t0", "t0", "t1"))


def test_columns_that_the_file_names_otherwise(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(CSV)
    assert torch.equal(split(tmp_path / "a.csv", TASKS), MASK)
    with pytest.raises(DataError, match=r"its columns itself \(t0, t1, t2\), but columns = .*; leave columns out"):
        split(tmp_path / "a.csv", ("t1", "t0", "t2"))


PUBLISHED = {
    "nyuv2-onelabel.pth": (795, ("segmentation", "depth", "normals"), {1}, 265),
    "nyuv2-randomlabels.pth": (795, ("segmentation", "depth", "normals"), {1, 2}, 385),
    "cityscapes-onelabel.pth": (2975, ("segmentation", "depth"), {1}, 1487),
}


@pytest.mark.parametrize("file", PUBLISHED)
def test_the_published_splits(file: str) -> None:
    folder = Path(os.environ.get("MTL_DATA", Path(__file__).parents[4] / "shared" / "data")) / "label-splits"
    if not folder.is_dir():
        pytest.skip("no published splits: set MTL_DATA to a folder with label-splits/")
    size, names, numbers, fewest = PUBLISHED[file]
    tasks = Tasks([Regression(name=name, channels=1) for name in names])
    found = SplitFile(path=str(folder / file)).make_label_mask(size, tasks, None)
    assert found.shape == (size, len(names))
    assert set(found.sum(1).tolist()) == numbers
    assert found.sum(0).min() == fewest
