"""Faults planted in a right label scenario: the contract finds each of them and says what it is."""

import random
import re
from typing import Any

import numpy as np
import pytest
import torch

from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.testing import LabelMaskContract, failures


def drawn(size, tasks, generator):
    """One label per sample, at random: what a right scenario does."""
    chosen = torch.randint(len(tasks), (size, 1), generator=generator)
    return chosen == torch.arange(len(tasks))


def make(mask) -> Any:
    return plugin(type("Planted", (), {"__doc__": "A label scenario.", "make_label_mask": hookimpl(mask)}))()


FAULTS: dict[str, tuple[Any, str, str]] = {}


def fault(check, words):
    def add(mask):
        FAULTS[mask.__name__] = (make(mask), f"test_{check}", words)
        return mask

    return add


@fault("is_a_mask_of_samples_and_tasks", "bool")
def gives_numbers(self, size, tasks, generator):
    return drawn(size, tasks, generator).float()


@fault("is_a_mask_of_samples_and_tasks", r"expected")
def gives_tasks_by_samples(self, size, tasks, generator):
    return drawn(size, tasks, generator).T


@fault("is_a_mask_of_samples_and_tasks", "expected")
def knows_three_tasks(self, size, tasks, generator):
    return torch.ones(size, 3, dtype=torch.bool)


@fault("is_a_mask_of_samples_and_tasks", "expected")
def needs_as_many_samples_as_tasks(self, size, tasks, generator):
    return torch.eye(len(tasks), dtype=torch.bool).repeat(max(1, size // len(tasks)), 1)


@fault("is_a_mask_of_samples_and_tasks", "returned None")
def gives_nothing_for_few_samples(self, size, tasks, generator):
    return drawn(size, tasks, generator) if size > 5 else None


@fault("is_a_mask_of_samples_and_tasks", "index|out of|range")
def needs_two_samples(self, size, tasks, generator):
    mask = drawn(size, tasks, generator)
    mask[1] = True
    return mask


@fault("draws_from_its_generator_only", "generators of one seed differ")
def draws_from_torch(self, size, tasks):
    return torch.randint(len(tasks), (size, 1)) == torch.arange(len(tasks))


@fault("draws_from_its_generator_only", "generators of one seed differ")
def draws_from_numpy(self, size, tasks):
    return torch.from_numpy(np.random.rand(size, len(tasks)) < 0.5)


@fault("draws_from_its_generator_only", "generators of one seed differ")
def draws_from_python(self, size, tasks):
    return torch.tensor([[random.random() < 0.5 for _ in tasks] for _ in range(size)])


@fault("another_generator_gives_another_mask", "masks of 8 seeds differ: False")
def has_a_seed_of_its_own(self, size, tasks):
    return drawn(size, tasks, torch.Generator().manual_seed(0))


@fault("remembers_nothing", "call 2")
def hands_out_its_mask(self, size, tasks, generator):
    if getattr(self, "kept", torch.empty(0)).shape != (size, len(tasks)):
        self.kept = drawn(size, tasks, generator)
    return self.kept


@fault("remembers_nothing", "call 5")
def counts_its_calls(self, size, tasks, generator):
    self.calls = getattr(self, "calls", 0) + 1
    return drawn(size, tasks, generator) if self.calls < 5 else torch.ones(size, len(tasks), dtype=torch.bool)


@fault("names_of_samples_are_optional", "not supported between")
def needs_numbers_as_names(self, size, tasks, generator, names):
    mask = drawn(size, tasks, generator)
    return mask if names is None else mask & torch.tensor([name > 0 for name in names])[:, None]


@fault("is_a_mask_of_samples_and_tasks", "NoneType")
def needs_names(self, size, tasks, generator, names):
    return drawn(len(names), tasks, generator)


@fault("leaves_the_names_as_they_were", "the list of names was changed")
def sorts_the_names(self, size, tasks, generator, names):
    if names is not None:
        names.sort()
    return drawn(size, tasks, generator)


@fault("labels_are_spread_over_the_tasks", "no label at all for")
def forgets_the_last_task(self, size, tasks, generator):
    mask = drawn(size, tasks, generator)
    mask[:, -1] = False
    return mask


@fault("labels_are_spread_over_the_tasks", "no label at all for")
def draws_one_task_too_few(self, size, tasks, generator):
    chosen = torch.randint(len(tasks) - 1, (size, 1), generator=generator)
    return chosen == torch.arange(len(tasks))


@pytest.mark.parametrize("name", list(FAULTS))
def test_the_fault_is_named(name: str) -> None:
    planted, check, words = FAULTS[name]
    with pytest.raises(Exception, match=re.compile(words, re.DOTALL)):
        getattr(LabelMaskContract(), check)(planted)


def test_a_known_gap_is_one() -> None:
    """How many labels a sample keeps is the scenario's own rule."""

    def two_labels(self, size, tasks, generator):
        mask = drawn(size, tasks, generator)
        return mask | mask.roll(1, 1)

    assert failures(LabelMaskContract, make(two_labels)) == {}


def test_what_is_right_passes() -> None:
    def right(self, size, tasks, generator):
        return drawn(size, tasks, generator)

    assert failures(LabelMaskContract, make(right)) == {}
