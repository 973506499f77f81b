"""What is kept comes back bit for bit, in as few bytes as that allows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mtl_core import BinaryEdges, Classification, Depth, Normals, Regression, Sample, Segmentation, Tasks
from mtl_data.records import _field_for, _same_bits, layout_of

SIZE = (6, 8)
quick = settings(max_examples=60, deadline=None)


def whole(top: int, scale: int, seed: int = 0) -> Any:
    numbers = np.random.default_rng(seed).integers(0, top + 1, (1, *SIZE))
    return numbers.astype(np.float32) / np.float32(scale)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (whole(255, 255), "u1"),
        (whole(60000, 1000), "u2"),
        (whole(65535, 512), "u2"),
        (whole(65535, 65535), "u2"),
        (np.random.default_rng(0).random((1, *SIZE)).astype(np.float32), "float32"),
        (-whole(255, 255), "float32"),
    ],
)
def test_floats_that_a_file_had_as_whole_numbers_take_their_bits(values: Any, kind: str) -> None:
    field = _field_for("depth", [values], Depth(name="depth"))
    assert field.kind == kind
    assert _same_bits(field.unpack(field.pack(values)), values)


def test_nan_has_a_number_of_its_own_where_a_task_may_be_invalid() -> None:
    values = whole(255, 255)
    field = _field_for("edges", [values], BinaryEdges(name="edges"))
    values[0, :2] = np.nan
    kept = field.pack(values)
    assert kept is not None
    assert _same_bits(field.unpack(kept), values)


def test_the_largest_number_is_not_taken_for_nan() -> None:
    """65535 / 65535 and 255 / 255 are 1, also beside NaN: wider types are taken, or the values are not kept."""
    values = np.array([[[0.0, 1.0, np.nan, 3 / 65535]]], np.float32)
    field = _field_for("r", [values], Regression(name="r", channels=1))
    assert _same_bits(field.unpack(field.pack(values)), values)
    white = np.array([[[0.0, 1.0, np.nan, 3 / 255]]], np.float32)
    field = _field_for("r", [white], Regression(name="r", channels=1))
    assert field.kind == "u2"
    assert _same_bits(field.unpack(field.pack(white)), white)


def test_a_sign_of_zero_is_kept() -> None:
    values = np.array([0.0, -0.0], np.float32)
    assert _field_for("d", [values], Depth(name="d")).kind == "float32"


@pytest.mark.parametrize(("channels", "kind"), [(13, "i1"), (128, "i1"), (129, "i2"), (40000, "i4")])
def test_classes_take_the_smallest_type_that_holds_all_of_them(channels: int, kind: str) -> None:
    labels = np.array([[-1, 0], [channels - 1, 1]])
    field = _field_for("s", [labels], Segmentation(name="s", channels=channels))
    kept = field.pack(labels)
    assert (field.kind, field.unpack(kept).dtype) == (kind, np.int64)
    assert np.array_equal(field.unpack(kept), labels)


def test_a_value_that_would_be_lost_is_refused() -> None:
    field = _field_for("s", [np.array([[0, 1]])], Segmentation(name="s", channels=13))
    assert field.pack(np.array([[0, 255]])) is None
    depth = _field_for("d", [whole(60000, 1000)], Depth(name="d"))
    assert depth.pack(whole(60000, 1000) + np.float32(1e-4)) is None
    assert depth.pack(np.full((1, *SIZE), np.nan, np.float32)) is None
    assert depth.pack(np.full((1, *SIZE), 70.0, np.float32)) is None


any_floats = arrays.arrays(np.float32, (2, 3), elements=st.floats(width=32))


@quick
@given(any_floats, any_floats)
def test_nothing_is_ever_lost(looked_at: Any, later: Any) -> None:
    for task in (Depth(name="d"), Regression(name="d", channels=1)):
        field = _field_for("d", [looked_at], task)
        assert _same_bits(field.unpack(field.pack(looked_at)), looked_at)
        kept = field.pack(later)
        assert kept is None or _same_bits(field.unpack(kept), later)


TASKS = Tasks(
    [Segmentation(name="s", channels=5), Depth(name="d"), Normals(name="n"), Classification(name="c", channels=9)]
)


def sample(seed: int) -> Sample:
    g = torch.Generator().manual_seed(seed)
    return Sample(
        torch.randint(0, 256, (3, *SIZE), generator=g).to(torch.uint8),
        {
            "s": torch.randint(-1, 5, SIZE, generator=g),
            "d": torch.from_numpy(whole(9000, 1000, seed)),
            "n": torch.randn(3, *SIZE, generator=g),
            "c": torch.tensor(seed % 9),
        },
    )


def assert_same(a: Sample, b: Sample) -> None:
    assert a.targets.keys() == b.targets.keys()
    for x, y in ((a.image, b.image), *((a.targets[name], b.targets[name]) for name in a.targets)):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        assert _same_bits(x.numpy(), y.numpy())


def test_a_sample_comes_back_from_its_record() -> None:
    layout = layout_of([sample(0), sample(1)], TASKS)
    assert [field.kind for field in layout.fields] == ["uint8", "i1", "u2", "float32", "i1"]
    for seed in range(4):
        record = layout.pack(sample(seed))
        assert record is not None
        assert len(record) == layout.size
        assert len(record) % 8 == 0
        assert_same(layout.unpack(record), sample(seed))


def test_a_missing_label_is_not_a_blank_one() -> None:
    layout = layout_of([sample(0)], TASKS)
    lacking = sample(1)
    del lacking.targets["d"]
    record = layout.pack(lacking)
    assert record is not None
    assert list(layout.unpack(record).targets) == ["s", "n", "c"]


def test_no_room_for_a_task_without_labels() -> None:
    bare = Sample(sample(0).image, {"s": sample(0).targets["s"]})
    layout = layout_of([bare], TASKS)
    assert len(layout.fields) == 2
    assert layout.pack(sample(0)) is None
    wider = layout.widened(sample(0), TASKS)
    assert wider is not None
    assert_same(wider.unpack(wider.pack(sample(0))), sample(0))


def test_a_layout_widens_for_values_and_not_for_another_form() -> None:
    layout = layout_of([sample(0)], TASKS)
    odd = sample(1)
    odd.targets["d"] = odd.targets["d"] + 1e-4
    wider = layout.widened(odd, TASKS)
    assert wider is not None
    assert_same(wider.unpack(wider.pack(odd)), odd)
    odd.targets["d"] = odd.targets["d"][:, :3]
    assert layout.widened(odd, TASKS) is None
    odd.targets = {"other": odd.targets["s"]}
    assert layout.widened(odd, TASKS) is None
