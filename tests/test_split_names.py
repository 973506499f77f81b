"""The published splits of PASCAL-Context name the tasks that the data set has."""

from mtl_labels.by_id import OURS, PUBLISHED
from mtl_pascal_context import TASKS


def test_every_published_name_is_a_task() -> None:
    assert {OURS.get(name, name) for name in PUBLISHED} == set(TASKS)
    assert set(OURS) <= set(PUBLISHED)
