"""Where a run stands: its epoch, its batch, and the micro-batch of an optimizer step."""

from __future__ import annotations

from typing import NamedTuple

import attrs


class MicroBatch(NamedTuple):
    """Which of the micro-batches of one optimizer step a batch is."""

    place: int
    size: int

    @property
    def is_last(self) -> bool:
        return self.place + 1 == self.size


@attrs.define
class Position:
    """Where a run stands, between two micro-batches.

    :param epoch: the one that is under way, from 0
    :param batch: micro-batches of it that are done
    :param micro_step: micro-batches that are done since the run began
    :param saved: ``micro_step`` of the last checkpoint
    """

    epoch: int = 0
    batch: int = 0
    micro_step: int = 0
    saved: int = 0

    def next_micro_batch(self, accumulate: int, batches: int) -> MicroBatch:
        """Where the next batch stands among those of its optimizer step.

        :param accumulate: micro-batches of a step
        :param batches: micro-batches of an epoch
        """
        place = self.batch % accumulate
        # an epoch may end with fewer micro-batches than `accumulate`
        left = batches - self.batch + place
        return MicroBatch(place, max(place + 1, min(accumulate, left)))

    def after_batch(self) -> None:
        self.batch += 1
        self.micro_step += 1

    def after_epoch(self) -> None:
        self.epoch += 1
        self.batch = 0
