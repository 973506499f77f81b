"""The splits that MTPSL and DiffusionMTL publish for PASCAL-Context, in miniature, and files that are nearly so."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mtl_core import DataError, Regression, Tasks
from mtl_labels import SplitFile, Unlabelled

NAMES = ["2008_000002", "2008_000003", "2008_000007", "2010_004365"]
OURS = ("segmentation", "parts", "normals", "saliency", "edges")
LISTS = {
    "human_parts": NAMES[:1],
    "edge": NAMES[1:3],
    "semseg": [NAMES[3], NAMES[0]],
    "normals": [],
    "sal": [NAMES[2]],
}
ROWS = {NAMES[0]: [1, 1, 0, 0, 0], NAMES[1]: [0, 0, 0, 0, 1], NAMES[2]: [0, 0, 1, 0, 1], NAMES[3]: [1, 0, 0, 0, 0]}
"""semseg, human_parts, sal, normals, edge"""
MASK = torch.tensor([[1, 1, 0, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 1, 1], [1, 0, 0, 0, 0]]).bool()
"""In the order of OURS."""


def split(path: Path, order: tuple[str, ...] = OURS, names: Any = NAMES, columns: tuple[str, ...] = ()) -> Tensor:
    tasks = Tasks([Regression(name=name, channels=1) for name in order])
    made: Tensor = SplitFile(path=str(path), columns=columns).make_label_mask(len(names or NAMES), tasks, names)
    return made


def save_lists(path: Path, found: Any = None, text: Callable[[str], Any] = np.str_) -> Path:
    """As MTPSL's files were made: ``numpy.save`` of a dict, lists of numpy's text."""
    made = found or {task: [text(name) for name in names] for task, names in LISTS.items()}
    np.save(path, np.array(made, dtype=object), allow_pickle=True)
    return path


def save_rows(path: Path, found: Any = None, text: Callable[[str], Any] = np.str_, **options: Any) -> Path:
    """As DiffusionMTL's files were made: ``torch.save`` of a dict with numpy's text as keys."""
    torch.save(found or {text(name): row for name, row in ROWS.items()}, path, **options)
    return path


@pytest.mark.parametrize("text", [str, np.str_])
def test_lists_of_names(tmp_path: Path, text: Any) -> None:
    assert torch.equal(split(save_lists(tmp_path / "onelabel.npy", text=text)), MASK)


@pytest.mark.parametrize("text", [str, np.str_])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_rows_by_name(tmp_path: Path, text: Any, protocol: int) -> None:
    path = save_rows(tmp_path / "new_onelabel.pth", text=text, pickle_protocol=protocol)
    assert torch.equal(split(path), MASK)


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_files_of_any_numpy(tmp_path: Path, module: bytes) -> None:
    """numpy 2 renamed the module that pickles name; a protocol with text in lines has no lengths to go wrong."""
    path = tmp_path / "a.npy"
    save_lists(path)
    head, _, _ = path.read_bytes().partition(b"\n")
    body = pickle.dumps(np.array({t: [np.str_(n) for n in names] for t, names in LISTS.items()}, dtype=object), 2)
    path.write_bytes(
        head + b"\n" + body.replace(b"numpy._core.multiarray", module).replace(b"numpy.core.multiarray", module)
    )
    assert module in path.read_bytes()
    assert torch.equal(split(path), MASK)


def test_numbers_of_numpy_in_rows(tmp_path: Path) -> None:
    found = {name: [np.int64(row[0]), np.float32(row[1]), np.bool_(row[2]), *row[3:]] for name, row in ROWS.items()}
    assert torch.equal(split(save_rows(tmp_path / "a.pth", found)), MASK)


@pytest.mark.parametrize("save", [save_lists, save_rows])
def test_some_tasks_in_another_order(tmp_path: Path, save: Any) -> None:
    path = save(tmp_path / ("a.npy" if save is save_lists else "a.pth"))
    assert torch.equal(split(path, order=("edges", "segmentation")), MASK[:, [4, 0]])


@pytest.mark.parametrize("save", [save_lists, save_rows])
def test_samples_in_another_order(tmp_path: Path, save: Any) -> None:
    path = save(tmp_path / ("a.npy" if save is save_lists else "a.pth"))
    assert torch.equal(split(path, names=NAMES[::-1]), MASK.flip(0))


def test_a_share_of_it(tmp_path: Path) -> None:
    plugin = Unlabelled(share=0.5, rest="split-file", path=str(save_lists(tmp_path / "a.npy")))
    tasks = Tasks([Regression(name=name, channels=1) for name in OURS])
    found = plugin.make_label_mask(4, tasks, torch.Generator().manual_seed(0), NAMES)
    kept = found.any(1)
    assert kept.sum() == 2
    assert torch.equal(found[kept], MASK[kept])


LIKE_MTPSL = "expected a pickled dict of tasks with a list of names each, as MTPSL publishes"
LIKE_DIFFUSION = "a dict of names with a row of 0 and 1 each (semseg, human_parts, sal, normals, edge), as DiffusionMTL"
WRONG: dict[str, tuple[str, Any, str]] = {
    "a text": ("a.npy", "semseg", f"holds a str; {LIKE_MTPSL}"),
    "numbers": ("a.npy", {"semseg": [1]}, f"holds a dict with 'semseg'; {LIKE_MTPSL}"),
    "one name": ("a.npy", {"semseg": "2008_000002"}, f"holds a dict with 'semseg'; {LIKE_MTPSL}"),
    "unknown name": (
        "a.npy", {"semseg": ["2008_000004"]}, "no training sample '2008_000004'; did you mean \"2008_000007\"? (4 "
    ),
    "unknown row": ("a.pth", {**ROWS, "x": [1, 0, 0, 0, 0]}, "no training sample 'x' (4 samples, the first"),
    "too short": ("a.pth", {**ROWS, NAMES[0]: [1, 0]}, f"2 values for '2008_000002'; expected {LIKE_DIFFUSION}"),
    "a row is missing": (
        "a.pth", {name: ROWS[name] for name in NAMES[:3]}, "3 of 4 training samples have a row; there is none for '2010"
    ),
    "twos": ("a.pth", {**ROWS, NAMES[0]: [2, 0, 0, 0, 0]}, "values from 0 to 2, expected only 0 and 1"),
    "words": ("a.pth", {NAMES[0]: ["a"]}, "holds a dict with '2008_000002'; expected a dict with \"labels_weights\""),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_says_what_was_expected(tmp_path: Path, case: str) -> None:
    file, found, message = WRONG[case]
    path = tmp_path / file
    (save_lists if file.endswith(".npy") else save_rows)(path, found)
    with pytest.raises(DataError) as caught:
        split(path)
    assert str(caught.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize("save", [save_lists, save_rows])
def test_data_without_names(tmp_path: Path, save: Any) -> None:
    path = save(tmp_path / ("a.npy" if save is save_lists else "a.pth"))
    with pytest.raises(DataError, match="goes by names, but the data set gives its samples none; use a split by index"):
        split(path, names=None)


def test_a_task_that_it_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column for the task 'depth' \(columns: parts, edges, segmentation"):
        split(save_lists(tmp_path / "a.npy"), order=("depth",))


def test_its_own_names_of_columns(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="names its columns itself"):
        split(save_rows(tmp_path / "a.pth"), columns=OURS)
