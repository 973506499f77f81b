"""Thinning is the one that the published labels were made with."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.ndimage import label

from mtl_pascal_context.thinning import Mask, thin

EIGHT = np.ones((3, 3), int)
masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=14), elements=st.booleans())
quick = settings(max_examples=150, deadline=None)  # a slow machine is no reason to fail

BEFORE = """
#####....##......######.####
#####............######.####
#####..........#######.#####
.............#######.#######
...........########..#######
..##......########..#####...
.######...#####.....####....
#######....####...##........
######.....####..###..###..#
#######.....#######.########
####..##....####....####...#
..##..####.###......########
.......########..###########
.........######..###########
"""
AFTER = """
.........##.................
.###...............####.....
..................#..#.###..
.................#....#.....
..............###......#....
.............#.......##.....
............#.......#.......
............#......#........
...##.......#.....##.......#
..#..#.......#####..#..####.
..#...#......#.......##....#
..#....#....#.........#...#.
........####........##.###..
.................###........
"""
"""What scikit-image 0.26 makes of it."""


def drawn(picture: str) -> Mask:
    return np.array([[pixel == "#" for pixel in row] for row in picture.split()])


def test_a_drawing() -> None:
    assert thin(drawn(BEFORE)).tolist() == drawn(AFTER).tolist()


@quick
@given(masks)
def test_as_scikit_image_has_it(mask: Mask) -> None:
    morphology = pytest.importorskip("skimage.morphology", reason="scikit-image is not installed")
    assert thin(mask).tolist() == morphology.thin(mask).tolist()


@quick
@given(masks)
def test_what_thinning_keeps(mask: Mask) -> None:
    """A part of the mask, in as many pieces, that is not thinned further."""
    before = mask.copy()
    thinned = thin(mask)
    assert (mask == before).all()
    assert not (thinned & ~mask).any()
    assert label(thinned, EIGHT)[1] == label(mask, EIGHT)[1]
    assert (thin(thinned) == thinned).all()


def test_nothing_and_a_pixel() -> None:
    assert not thin(np.zeros((3, 4), bool)).any()
    assert thin(np.ones((1, 1), bool)).all()
