"""Tasks that a setting names."""

import pytest

from mtl_core.errors import MtlError
from mtl_core.testing import make_tasks

ALL = make_tasks("segmentation", "depth", "scene")


def test_tasks_are_chosen_in_the_order_of_the_setting() -> None:
    assert ALL.choose(["depth", "segmentation"], "p.tasks").names == ("depth", "segmentation")


def test_an_unknown_task_is_named_with_the_nearest_one() -> None:
    with pytest.raises(MtlError, match=r"p\.tasks: the data set has no task 'dept'; did you mean \"depth\""):
        ALL.choose(["dept"], "p.tasks")


def test_without_names_every_task_is_chosen() -> None:
    assert make_tasks("segmentation", "depth").choose_dense((), "p", "pairs need").names == ("segmentation", "depth")


def test_a_task_per_image_is_refused_with_the_names_that_are_left() -> None:
    with pytest.raises(MtlError, match=r"p: task 'scene' has one value per image.*tasks = \['segmentation', 'depth'\]"):
        ALL.choose_dense((), "p", "pairs need")
    assert ALL.choose_dense(("segmentation", "depth"), "p", "pairs need").names == ("segmentation", "depth")


def test_one_task_is_not_enough() -> None:
    with pytest.raises(MtlError, match="p: pairs need two tasks, found depth; remove the plugin, or add a task"):
        ALL.choose_dense(("depth",), "p", "pairs need")
    with pytest.raises(MtlError, match=r"p\.tasks: the data set has no task 'dept'"):
        ALL.choose_dense(("dept",), "p", "pairs need")
