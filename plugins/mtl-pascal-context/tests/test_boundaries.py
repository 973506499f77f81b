"""Edges of a label map, in both forms of the field."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.ndimage import laplace

from mtl_pascal_context.boundaries import benchmark_edges, training_edges
from mtl_pascal_context.thinning import thin

maps = arrays(np.int64, array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=12), elements=st.integers(1, 4))
quick = settings(max_examples=100, deadline=None)


@quick
@given(maps)
def test_training_edges_are_where_the_laplacian_is_not_zero(labels: Any) -> None:
    """4-neighbours, mirrored at the border without its pixels: scipy's "mirror"."""
    assert training_edges(labels).tolist() == thin(laplace(labels, mode="mirror") != 0).tolist()


@quick
@given(maps)
def test_benchmark_edges_are_where_a_later_neighbour_differs(labels: Any) -> None:
    height, width = labels.shape
    marked = np.zeros(labels.shape, bool)
    for y in range(height):
        for x in range(width):
            later = labels[y : y + 2, x : x + 2]
            marked[y, x] = (later != labels[y, x]).any()
    assert benchmark_edges(labels).tolist() == thin(marked).tolist()


def test_a_step_is_one_pixel_wide_in_both() -> None:
    labels = np.ones((12, 12), np.uint16)
    labels[:, 6:] = 459
    for edges, columns in ((training_edges(labels), {5, 6}), (benchmark_edges(labels), {5})):
        assert edges.sum(1)[2:-2].tolist() == [1] * 8
        assert {int(x) for x in np.flatnonzero(edges.any(0))} <= columns


def test_large_numbers_do_not_wrap_around() -> None:
    """459 and 203 differ by 256."""
    labels = np.full((8, 8), 203, np.uint16)
    labels[:, 4:] = 459
    assert training_edges(labels).any()
    assert training_edges(labels.astype(np.uint16)).tolist() == training_edges(labels.astype(np.int64)).tolist()


def test_one_label_has_no_edge() -> None:
    labels = np.full((8, 8), 7)
    assert not training_edges(labels).any()
    assert not benchmark_edges(labels).any()
