"""Validators that data sets share."""

import pytest

from mtl_data import known_tasks, positive_size

VALIDATE = known_tasks("Rooms", ("depth", "normals"))


def test_known_tasks_pass_in_any_order() -> None:
    VALIDATE(None, None, ("normals", "depth"))


def test_an_unknown_task_is_named_with_the_nearest_one() -> None:
    with pytest.raises(ValueError, match=r"Rooms has no task 'dept'; did you mean \"depth\"\? \(it has: depth"):
        VALIDATE(None, None, ("dept",))


@pytest.mark.parametrize("value", [(), ("depth", "depth")])
def test_no_task_and_a_task_twice_are_refused(value: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="expected at least one task and none twice"):
        VALIDATE(None, None, value)


def test_sizes_are_at_least_one_pixel() -> None:
    positive_size(None, None, None)
    positive_size(None, None, (1, 1))
    with pytest.raises(ValueError, match=r"expected \[height, width\] in pixels, found \[0, 4\]"):
        positive_size(None, None, (0, 4))
