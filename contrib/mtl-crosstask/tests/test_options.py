"""Options and maps that both regularizers share."""

from __future__ import annotations

import pytest

from mtl_core import MtlError
from mtl_core.testing import StubBackbone, make_tasks
from mtl_crosstask import DirectMap, PerceptualMap

TASKS = make_tasks("segmentation", "depth", "normals")
Kind = type[DirectMap] | type[PerceptualMap]
both = pytest.mark.parametrize("kind", [DirectMap, PerceptualMap])


@both
def test_a_map_for_every_ordered_pair_of_the_chosen_tasks_that_learns(kind: Kind) -> None:
    made = kind(tasks=("normals", "depth"), width=4)
    made.setup("maps", TASKS, StubBackbone())
    assert made.mapped.names == ("normals", "depth")
    names = {name.rpartition("m.maps.")[2].partition(".")[0] for name, _ in made.named_parameters()}
    assert names == {"normals→depth", "depth→normals"}


@both
def test_a_task_per_image_is_refused_by_name(kind: Kind) -> None:
    with pytest.raises(MtlError, match="the-name: task 'scene' has one value per image"):
        kind().setup("the-name", make_tasks("segmentation", "scene"), StubBackbone())


@both
def test_maps_may_have_a_learning_rate_of_their_own(kind: Kind) -> None:
    made = kind(learning_rate=0.5, width=4)
    made.setup("maps", TASKS, StubBackbone())
    (group,) = made.parameter_groups() or ()
    assert group["lr"] == 0.5
    assert {id(p) for p in group["params"]} == {id(p) for p in made.parameters()}
    assert kind().parameter_groups() is None
