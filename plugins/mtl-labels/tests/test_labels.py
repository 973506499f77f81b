"""Label scenarios: shares, determinism, files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mtl_core.errors import DataError, MtlError
from mtl_core.tasks import Regression, Tasks
from mtl_labels import Full, HalfLabels, OneLabel, RandomLabels, SplitFile, Unlabelled

SCENARIOS: dict[str, Callable[[], object]] = {
    "full": Full,
    "onelabel": OneLabel,
    "randomlabels": RandomLabels,
    "halflabels": HalfLabels,
    "unlabelled": Unlabelled,
    "unlabelled-random": lambda: Unlabelled(share=0.3, rest="randomlabels"),
}


def tasks(k: int) -> Tasks:
    return Tasks([Regression(name=f"t{i}", channels=1) for i in range(k)])


def mask(plugin: object, size: int, k: int, seed: int = 0) -> Tensor:
    made: Tensor = plugin.make_label_mask(size, tasks(k), torch.Generator().manual_seed(seed))  # type: ignore[attr-defined]
    return made


sizes = st.integers(1, 200)
counts = st.integers(2, 9)


@settings(max_examples=40, deadline=None)
@given(sizes, counts, st.integers(0, 5))
def test_one_label_gives_each_sample_one_and_each_task_its_share(size: int, k: int, seed: int) -> None:
    m = mask(OneLabel(), size, k, seed)
    assert (m.sum(1) == 1).all()
    assert m.sum(0).max() - m.sum(0).min() <= 1


@settings(max_examples=40, deadline=None)
@given(sizes, counts, st.integers(0, 5))
def test_random_labels_leave_out_at_least_one_and_share_alike(size: int, k: int, seed: int) -> None:
    m = mask(RandomLabels(), size, k, seed)
    per_sample = m.sum(1)
    assert per_sample.min() >= 1
    assert per_sample.max() <= k - 1
    numbers = per_sample.bincount(minlength=k)[1:k]
    assert numbers.max() - numbers.min() <= 1
    assert m.sum(0).max() - m.sum(0).min() <= 2


@settings(max_examples=40, deadline=None)
@given(sizes, counts, st.integers(0, 5))
def test_half_labels_give_half_of_the_tasks(size: int, k: int, seed: int) -> None:
    per_sample = mask(HalfLabels(), size, k, seed).sum(1)
    assert set(per_sample.tolist()) <= {k // 2, -(-k // 2)}


def test_half_labels_of_seven_are_three_or_four() -> None:
    assert mask(HalfLabels(), 100, 7).sum(1).bincount().tolist() == [0, 0, 0, 50, 50]


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_unlabelled_leaves_a_share_without_any(share: float) -> None:
    m = mask(Unlabelled(share=share, rest="full"), 40, 3)
    assert (~m.any(1)).sum() == round(40 * share)
    assert m[m.any(1)].all()


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_depends_on_its_generator_alone(name: str) -> None:
    torch.manual_seed(1)
    one = mask(SCENARIOS[name](), 30, 3, seed=4)
    torch.manual_seed(2)
    assert torch.equal(one, mask(SCENARIOS[name](), 30, 3, seed=4))
    if name != "full":
        assert not torch.equal(one, mask(SCENARIOS[name](), 30, 3, seed=5))


@pytest.mark.parametrize("plugin", [RandomLabels(), HalfLabels(), Unlabelled(rest="randomlabels")])
def test_leaving_labels_out_needs_two_tasks(plugin: object) -> None:
    with pytest.raises(MtlError, match=r"one task \(t0\); use full or unlabelled"):
        mask(plugin, 10, 1)


TABLE = np.eye(3)[[0, 1, 2, 1]]


def split(
    path: Path, k: int = 3, size: int = 4, names: list[str] | None = None, columns: tuple[str, ...] = ()
) -> Tensor:
    made: Tensor = SplitFile(path=str(path), columns=columns).make_label_mask(size, tasks(k), names)
    return made


def test_split_files_of_every_kind_say_the_same(tmp_path: Path) -> None:
    torch.save({"labels_weights": torch.tensor(TABLE)}, tmp_path / "a.pth")
    np.save(tmp_path / "a.npy", TABLE)
    rows = "\n".join(f"{i},{int(r[2])},{int(r[0])},{int(r[1])}" for i, r in enumerate(TABLE))
    (tmp_path / "a.csv").write_text(f"index,t2,t0,t1\n{rows}\n")
    named = "\n".join(f"img{i},{int(r[0])},{int(r[1])},{int(r[2])}" for i, r in reversed(list(enumerate(TABLE))))
    (tmp_path / "b.csv").write_text(f"name,t0,t1,t2\n{named}\n")
    expected = torch.tensor(TABLE).bool()
    for file in ("a.pth", "a.npy", "a.csv"):
        assert torch.equal(split(tmp_path / file), expected)
    assert torch.equal(split(tmp_path / "b.csv", names=[f"img{i}" for i in range(4)]), expected)


def test_columns_name_the_tasks_of_a_table(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", TABLE)
    found = split(tmp_path / "a.npy", k=2, columns=("t1", "other", "t0"))
    assert torch.equal(found, torch.tensor(TABLE).bool()[:, [2, 0]])


CSV = "index,t0,t1,t2\n0,1,0,0\n1,0,1,0\n2,0,0,1\n3,0,1,0\n"
WRONG_CSV = {
    "": "header that begins with index or name",
    CSV.replace("index", "image"): "line 1: expected a header",
    CSV.replace("t1", "t9"): "no column for task 't1'",
    CSV.replace("3,0,1,0", "3,0,maybe,0"): "line 5: expected 3 cells of 0 or 1, found 'maybe'",
    CSV.replace("3,0,1,0", "3,0,1"): "line 5: expected 3 cells of 0 or 1, found 2 cells",
    CSV.replace("3,0,1,0", "7,0,1,0"): "line 5: no training sample '7'",
    CSV.replace("3,0,1,0\n", ""): "3 of 4 training samples have a row; missing for example '3'",
    CSV.replace("index", "name"): "gives its samples no names",
}


@pytest.mark.parametrize("text", WRONG_CSV)
def test_a_wrong_csv_says_where_and_what(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError) as caught:
        split(tmp_path / "a.csv")
    assert str(tmp_path / "a.csv") in str(caught.value)
    assert WRONG_CSV[text] in str(caught.value)


def test_other_wrong_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such split file; set split-file.path"):
        split(tmp_path / "none.pth")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match=r"end in .pth, .npy or .csv, found '.txt'"):
        split(tmp_path / "a.txt")
    (tmp_path / "b.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(DataError, match="cannot be read as a split"):
        split(tmp_path / "b.pth")
    torch.save({"weights": 1}, tmp_path / "c.pth")
    with pytest.raises(DataError, match="labels_weights"):
        split(tmp_path / "c.pth")
    np.save(tmp_path / "d.npy", TABLE)
    with pytest.raises(DataError, match=r"shape \(4, 3\), expected \(5, 3\)"):
        split(tmp_path / "d.npy", size=5)
    np.save(tmp_path / "e.npy", TABLE * 0.5)
    with pytest.raises(DataError, match="only 0 and 1"):
        split(tmp_path / "e.npy")


@pytest.mark.parametrize("file", ["nyuv2-onelabel.pth", "nyuv2-randomlabels.pth", "cityscapes-onelabel.pth"])
def test_the_published_splits_are_read(file: str) -> None:
    folder = Path(os.environ.get("MTL_DATA", Path(__file__).parents[4] / "shared" / "data")) / "label-splits"
    if not folder.is_dir():
        pytest.skip("no published splits: set MTL_DATA to a folder with label-splits/")
    size, k = (2975, 2) if "cityscapes" in file else (795, 3)
    m = split(folder / file, k, size)
    assert m.shape == (size, k)
    if "onelabel" in file:
        assert (m.sum(1) == 1).all()
        assert m.sum(0).tolist() in ([265, 265, 265], [1488, 1487], [1487, 1488])
    else:
        assert set(m.sum(1).tolist()) == {1, 2}
