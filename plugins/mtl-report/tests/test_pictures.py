"""What a plugin draws for the report: which columns there are, and what is in them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mtl_core.testing import make_batch, make_tasks
from mtl_report.pictures import _GAP, _TITLE, _image_pixels, _pasted, _striped, _value_range, drawing_limits, drawings

TASKS = make_tasks("segmentation", "depth", "normals", "scene")
LABELLED = torch.tensor([[1, 1, 1, 1], [0, 1, 0, 1]], dtype=torch.bool)
BATCH = make_batch(TASKS, LABELLED, size=(16, 24))


def maps(name: str, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, TASKS[name].channels, 16, 24, generator=generator)


def test_a_task_has_its_label_and_a_column_for_each_title() -> None:
    first, second = maps("depth", 0), maps("depth", 1)
    found = drawings(BATCH, TASKS, {"one": {"depth": first}, "two": {"depth": second}})
    depth, rows = TASKS["depth"], []
    labels = BATCH.targets["depth"][:, 0].numpy()
    limits = _value_range([labels[labels > 0]])
    assert drawing_limits(BATCH, TASKS, {"one": {"depth": first}}) == {"depth": limits}
    for i, image in enumerate(BATCH.images):
        label = BATCH.targets["depth"][i]
        valid = label[0].numpy() > 0
        guesses = [depth.picture(depth.decode(x)[i], limits) for x in (first, second)]
        rows.append([_image_pixels(image), _striped(depth.picture(label, limits), valid), *guesses])
    expected = _pasted(rows, ["image", "depth label", "one", "two"])
    assert np.array_equal(np.asarray(found), np.asarray(expected))


@pytest.mark.parametrize(
    ("titles", "columns"),
    [
        ({"one": ("normals",)}, 3),
        ({"one": ("depth", "normals")}, 5),
        ({"one": ("segmentation", "depth", "normals"), "two": ("depth",)}, 8),
    ],
)
def test_only_what_is_drawn_has_columns(titles: dict[str, tuple[str, ...]], columns: int) -> None:
    found = drawings(BATCH, TASKS, {title: {name: maps(name) for name in names} for title, names in titles.items()})
    assert found.size == (columns * (6 * 24 + _GAP) - _GAP, _TITLE + 2 * (6 * 16 + _GAP) - _GAP)


def test_a_label_that_is_withheld_is_striped_and_half_precision_is_drawn() -> None:
    whole = drawings(BATCH, TASKS, {"one": {"segmentation": maps("segmentation").bfloat16()}})
    second = np.asarray(whole)[_TITLE + 6 * 16 + _GAP :, 6 * 24 + _GAP : 2 * (6 * 24 + _GAP) - _GAP]
    assert set(np.unique(second)) == {70, 100}
