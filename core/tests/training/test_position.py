"""Where a run stands among the micro-batches of a step and of an epoch."""

from __future__ import annotations

import pytest

from mtl_core.training.position import Position


@pytest.mark.parametrize(
    ("accumulate", "batches", "expected"),
    [
        (1, 3, [(0, 1), (0, 1), (0, 1)]),
        (3, 7, [(0, 3), (1, 3), (2, 3), (0, 3), (1, 3), (2, 3), (0, 1)]),
        (4, 3, [(0, 3), (1, 3), (2, 3)]),
    ],
)
def test_the_last_step_of_an_epoch_has_the_micro_batches_that_are_left(
    accumulate: int, batches: int, expected: list[tuple[int, int]]
) -> None:
    position = Position()
    found = []
    for _ in range(batches):
        micro = position.next_micro_batch(accumulate, batches)
        found.append((micro.place, micro.size))
        assert micro.is_last == (micro.place == micro.size - 1)
        position.after_batch()
    assert found == expected


def test_an_epoch_begins_with_its_first_batch_and_steps_are_counted_on() -> None:
    position = Position(epoch=1, batch=5, micro_step=12, saved=10)
    position.after_batch()
    position.after_epoch()
    assert position == Position(epoch=2, batch=0, micro_step=13, saved=10)
