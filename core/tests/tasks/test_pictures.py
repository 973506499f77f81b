"""Values as colours."""

from __future__ import annotations

import numpy as np
import pytest

from mtl_core.tasks.pictures import graded, grey, palette


@pytest.mark.parametrize("classes", [1, 13, 40])
def test_every_class_has_a_colour_of_its_own(classes: int) -> None:
    colours = palette(classes)
    assert (colours.shape, colours.dtype) == ((classes, 3), np.uint8)
    assert len(np.unique(colours, axis=0)) == classes
    assert np.array_equal(palette(classes + 1)[:classes], colours), "one class more leaves the others as they are"


def test_grey_runs_from_black_to_white_and_stops_there() -> None:
    values = np.array([[-9.0, 1.0, 2.0, 3.0, 99.0]])
    assert grey(values, 1, 3)[0].tolist() == [[0] * 3, [0] * 3, [127] * 3, [255] * 3, [255] * 3]


def test_graded_becomes_lighter() -> None:
    light = graded(np.linspace(0, 1, 30)[None], 0, 1).astype(int).sum(-1)[0]
    assert (np.diff(light) >= 0).all()
    assert light[-1] > light[0] + 400


@pytest.mark.parametrize("scale", [grey, graded])
def test_values_that_are_missing_or_all_equal(scale: object) -> None:
    found = scale(np.array([[np.nan, 2.0], [2.0, 2.0]]), 2.0, 2.0)  # type: ignore[operator]
    assert (found.shape, found.dtype) == ((2, 2, 3), np.uint8)
    assert np.array_equal(found[0, 0], found[1, 1])
