"""Contract of what says which sample carries which label.

Shape letters: N samples, K tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

from torch import Tensor

from mtl_core.seeds import generator_for
from mtl_core.tasks.tasks import Tasks
from mtl_core.testing.contract import REPEATS, PluginContract, same, under
from mtl_core.testing.factories import EXAMPLES, make_tasks

DRAWS = 8


class LabelMaskContract(PluginContract):
    """``make_label_mask``: which training sample carries which task's label."""

    hook = "make_label_mask"
    random: ClassVar[bool] = True
    """Whether different generators give different masks."""
    sizes: ClassVar[tuple[int, ...]] = (1, 7, 60)
    """Numbers of samples to try."""
    counts: ClassVar[tuple[int, ...]] = (2, 3, 5)
    """Numbers of tasks to try."""
    every_task: ClassVar[bool] = True
    """Whether 60 samples (the last of ``sizes``) have a label of every task."""

    def mask(self, plugin: Any, size: int, tasks: Tasks, seed: int = 0, names: Sequence[str] | None = None) -> Tensor:
        hooks = self.prepare(plugin, tasks)
        return hooks.make_label_mask(size, tasks, generator_for(seed, "contract"), names)

    def cases(self) -> list[tuple[int, Tasks]]:
        return [(size, make_tasks(*list(EXAMPLES)[:count])) for size in self.sizes for count in self.counts]

    def test_is_a_mask_of_samples_and_tasks(self, plugin: Any) -> None:
        for size, tasks in self.cases():
            check_mask(self.mask(plugin, size, tasks), size, tasks)

    def test_draws_from_its_generator_only(self, plugin: Any) -> None:
        for size, tasks in self.cases():
            first, *others = (under(s, partial(self.mask, plugin, size, tasks, 3)) for s in range(DRAWS))
            agree = all(same(first, other) for other in others)
            assert agree, f"{size} samples, {len(tasks)} tasks: calls with generators of one seed differ"

    def test_another_generator_gives_another_mask(self, plugin: Any) -> None:
        size, tasks = self.cases()[-1]
        found = [self.mask(plugin, size, tasks, seed) for seed in range(DRAWS)]
        differ = any(not same(found[0], mask) for mask in found[1:])
        assert differ is self.random, f"random = {self.random}, masks of {DRAWS} seeds differ: {differ}"

    def test_remembers_nothing(self, plugin: Any) -> None:
        size, tasks = self.cases()[-1]
        hooks = self.prepare(plugin, tasks)
        first = hooks.make_label_mask(size, tasks, generator_for(3, "contract"), None)
        kept = first.clone()
        if 0 not in first.stride():
            first.zero_()  # a plugin that hands out a tensor which it keeps hands it out changed
        for k in range(2, REPEATS):
            found = hooks.make_label_mask(size, tasks, generator_for(3, "contract"), None)
            assert same(found, kept), f"call {k} with a generator of the same seed differs"

    def test_leaves_the_names_as_they_were(self, plugin: Any) -> None:
        size, tasks = self.cases()[-1]
        names = [f"{i:04d}" for i in range(size)][::-1]
        before = list(names)
        self.mask(plugin, size, tasks, names=names)
        assert names == before, "the list of names was changed; sort a copy"

    def test_names_of_samples_are_optional(self, plugin: Any) -> None:
        size, tasks = self.cases()[-1]
        names = [f"{i:04d}" for i in range(size)]
        check_mask(self.mask(plugin, size, tasks, names=names), size, tasks)

    def test_labels_are_spread_over_the_tasks(self, plugin: Any) -> None:
        for size, tasks in self.cases():
            if size == self.sizes[-1] and self.every_task:
                seen = self.mask(plugin, size, tasks).any(0).tolist()
                unlabelled = [name for name, has in zip(tasks.names, seen, strict=True) if not has]
                assert not unlabelled, f"no label at all for {unlabelled} among {size} samples"


def check_mask(mask: Tensor | None, samples: int, tasks: Tasks) -> None:
    if mask is not None:
        found = f"{mask.dtype} {tuple(mask.shape)} on {mask.device}"
        assert found == f"torch.bool {(samples, len(tasks))} on cpu", f"label mask {found}"
