# ruff: noqa: E501 - a case is a line
"""Wrong returns of plugins: each is refused with the plugin's name, what it returned and what was expected."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from attrs import field
from torch import Tensor, nn

from mtl_core.data.sample import Sample
from mtl_core.errors import ContractError
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.hooks.relay import Hooks
from mtl_core.step.encoder_gradients import Shaped
from mtl_core.testing import StubBackbone
from mtl_core.testing.factories import make_step, make_tasks
from mtl_core.testing.gradients import encoder_gradients, random_rows
from mtl_core.testing.toys import ToyData

TASKS = make_tasks()
HOOKS = (
    "build_dataset", "build_extra_datasets", "make_label_mask", "relabel", "transform_sample", "choose_windows", "count_views",
    "augment", "build_backbone", "build_heads", "parameter_groups", "combine_losses", "compute_regularizer",
    "watch_encoder_gradient", "shape_encoder_gradient", "draw_pictures",
)  # fmt: skip


@plugin
class Says(nn.Module):
    """Answers one hook with whatever it is given."""

    hook: str = field()
    value: Any = field()

    @property
    def fills(self) -> tuple[str, ...]:
        return "setup", self.hook

    @hookimpl
    def setup(self) -> None:
        self.register_buffer("count", torch.zeros(()))


def answering(hook: str) -> Any:
    def method(self: Any) -> Any:
        return self.value

    method.__name__ = hook
    return hookimpl(method)


for name in HOOKS:
    setattr(Says, name, answering(name))


def ask(hook: str, value: object) -> Any:
    """What core makes of an answer."""
    hooks = Hooks({"mine": Says(hook=hook, value=value)}, required=())
    generator = torch.Generator()
    hooks.setup(TASKS, (32, 32), StubBackbone(4), lambda name: None)
    step = make_step(TASKS)
    asked: dict[str, Callable[[], Any]] = {
        "build_dataset": lambda: hooks.build_dataset("train"),
        "build_extra_datasets": hooks.build_extra_datasets,
        "make_label_mask": lambda: hooks.make_label_mask(4, TASKS, generator, None),
        "relabel": lambda: hooks.relabel(ToyData().build_dataset("train"), torch.ones(8, 3).bool(), None),
        "transform_sample": lambda: hooks.transform_sample(sample(8), generator),
        "choose_windows": lambda: hooks.choose_windows(2, 4, generator),
        "count_views": hooks.count_views,
        "augment": lambda: hooks.augment(torch.zeros(4, 3, 8, 8), generator),
        "build_backbone": lambda: hooks.build_backbone((32, 32)),
        "build_heads": lambda: hooks.build_heads(nn.Identity(), TASKS, (32, 32)),
        "parameter_groups": lambda: hooks.parameter_groups(0.1),
        "combine_losses": lambda: hooks.combine_losses(step.task_losses, step.task_means, step.active, step),
        "compute_regularizer": lambda: hooks.compute_regularizer(step),
        "watch_encoder_gradient": lambda: hooks.watch_encoder_gradient(gradients()),
        "shape_encoder_gradient": lambda: hooks.shape_encoder_gradient(gradients()),
        "draw_pictures": lambda: hooks.draw_pictures(step),
    }
    return asked[hook]()


def sample(size: int) -> Sample:
    return Sample(torch.zeros(3, size, size), {"depth": torch.zeros(1, size, size)})


def gradients() -> Any:
    return encoder_gradients(random_rows(3), TASKS, step=make_step(TASKS))


ONE = torch.ones(())
WRONG: dict[str, tuple[str, object, str]] = {
    "a data set without tasks": ("build_dataset", [1, 2], "an object of the class list, expected a data set with tasks"),
    "extra data that is none": ("build_extra_datasets", [ToyData()], "a list of 1 (a value of the type ToyData), expected a list of ExtraData"),
    "a mask that is a list": ("make_label_mask", [[True]], "a list of 1 (a list of 1 (a value of the type bool)), expected torch.bool (4, 3)"),
    "a mask of numbers": ("make_label_mask", torch.ones(4, 3), "torch.float32 (4, 3), expected torch.bool (4, 3)"),
    "one mask for a pair": ("relabel", torch.ones(8, 3).bool(), "torch.bool (8, 3), expected 8 samples of ["),
    "an image for a sample": ("transform_sample", torch.zeros(3, 8, 8), "torch.float32 (3, 8, 8), expected a Sample as it was given"),
    "a sample of another size": ("transform_sample", sample(4), "image (3, 4, 4), depth (1, 4, 4), expected a Sample as it was given: image (3, 8, 8), depth (1, 8, 8)"),
    "windows for one sample": ("choose_windows", torch.ones(1, 1, 3), "(1, 1, 3), expected (1, 4, 3)"),
    "views in text": ("count_views", "two", "'two', expected a number of views, at least 1"),
    "no view": ("count_views", 0, "0, expected a number of views, at least 1"),
    "images of another size": ("augment", torch.zeros(4, 3, 4, 4), "torch.float32 (4, 3, 4, 4), expected images like those that it was given, torch.float32 (4, 3, 8, 8)"),
    "images in bytes": ("augment", torch.zeros(4, 3, 8, 8, dtype=torch.uint8), "torch.uint8 (4, 3, 8, 8), expected images like"),
    "a function for a backbone": ("build_backbone", torch.relu, "a value of the type builtin_function_or_method, expected a torch.nn.Module"),
    "heads in a list": ("build_heads", [nn.Identity()], "a list of 1 (a value of the type Identity), expected a torch.nn.ModuleDict"),
    "parameters for groups": ("parameter_groups", [nn.Parameter(ONE)], "a list of 1 (torch.float32 ()), expected a list of groups {\"params\": [...]"),
    "a vector for a scalar": ("combine_losses", torch.ones(3), "torch.float32 (3,), expected a scalar: a tensor of shape ()"),
    "a whole number for a loss": ("combine_losses", torch.tensor(1), "torch.int64 (), expected a scalar: a tensor of shape () and type torch.float32"),
    "a constant for a loss": ("combine_losses", torch.tensor(1.0), "torch.float32 () without a gradient (a constant, or detached), expected a scalar that is computed from the losses"),
    "whole numbers for weights": ("shape_encoder_gradient", torch.ones(3, dtype=torch.long), "torch.int64 (3,), expected weights (3,) or a gradient like z"),
    "a number for a scalar": ("combine_losses", 3.0, "a value of the type float, expected a scalar"),
    "a bare term": ("compute_regularizer", ONE, "torch.float32 (), expected terms by name"),
    "a term that is a vector": ("compute_regularizer", {"pull": torch.ones(4)}, "torch.float32 (4,) for 'pull', expected terms by name, each a scalar tensor of shape () or (sum, count)"),
    "a term of three": ("compute_regularizer", {"pull": (ONE, ONE, ONE)}, "a tuple of 3 (torch.float32 (), torch.float32 (), torch.float32 ()) for 'pull'"),
    "a number for a term": ("compute_regularizer", {"pull": 0.5}, "a value of the type float for 'pull'"),
    "a state that is a tensor": ("watch_encoder_gradient", ONE, "torch.float32 (), expected a state by the names of its buffers"),
    "a state of no buffer": ("watch_encoder_gradient", {"sum": ONE}, "torch.float32 () for 'sum' (no buffer of this name)"),
    "weights in a list": ("shape_encoder_gradient", [1.0, 1.0], "a list of 2 (a value of the type float, a value of the type float), expected weights (3,) or a gradient like z, [(2, 3, 2, 2)]"),
    "too many weights": ("shape_encoder_gradient", torch.ones(4), "torch.float32 (4,), expected weights (3,)"),
    "a gradient of another shape": ("shape_encoder_gradient", Shaped((torch.ones(2, 3, 4, 4),)), "a tuple of 1 (torch.float32 (2, 3, 4, 4)), expected"),
    "a state of another shape": ("shape_encoder_gradient", Shaped(torch.ones(3), {"count": torch.ones(3)}), "torch.float32 (3,) for 'count' (its buffer is torch.float32 ()), expected a state"),
    "maps without a title": ("draw_pictures", {"depth": torch.ones(1)}, "torch.float32 (1,) for 'depth', expected title → task → maps"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_answer_names_plugin_hook_what_was_found_and_what_was_expected(case: str) -> None:
    hook, value, message = WRONG[case]
    with pytest.raises(ContractError, match=rf'^plugin "mine": {hook} returned {re.escape(message)}'):
        ask(hook, value)


RIGHT: list[tuple[str, object]] = [
    ("combine_losses", torch.tensor(2.0, requires_grad=True)),
    ("compute_regularizer", {"a": ONE, "b": (ONE, ONE)}),
    ("compute_regularizer", {}),
    ("compute_regularizer", None),
    ("watch_encoder_gradient", {"count": ONE}),
    ("shape_encoder_gradient", torch.ones(3)),
    ("shape_encoder_gradient", Shaped(torch.ones(3), {"count": ONE})),
    ("shape_encoder_gradient", torch.ones(2, 3, 2, 2)),
    ("shape_encoder_gradient", (torch.ones(2, 3, 2, 2),)),
    ("augment", None),
    ("transform_sample", sample(8)),
    ("parameter_groups", ({"params": []},)),
    ("parameter_groups", None),
]


@pytest.mark.parametrize(("hook", "value"), RIGHT)
def test_a_right_answer_passes(hook: str, value: object) -> None:
    ask(hook, value)


def test_a_check_waits_for_no_value() -> None:
    """On the meta device nothing has a value."""
    assert ask("combine_losses", torch.ones((), device="meta", requires_grad=True)).device.type == "meta"
    found: Tensor = ask("shape_encoder_gradient", torch.ones(3, device="meta"))
    assert found.device.type == "meta"
