"""The contract of regularizers passes what is sound and rejects what is not."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtl_core.errors import ContractError
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.step.step import Step
from mtl_core.tasks.tasks import Tasks
from mtl_core.testing import (
    RegularizerContract,
    failures,
)


class Regular(RegularizerContract):
    image_size = (32, 32)


def squares(step: Step) -> Tensor:
    return torch.stack([p.float().square().mean() for p in step.predictions.values()]).sum()


@plugin
class Pull:
    """Pulls every prediction towards zero."""

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor]:
        return {"pull": squares(step)}


@plugin
class Compare(nn.Module):
    """Learns to tell predictions from labels, over pixels that are valid: a sum with its count."""

    @hookimpl
    def count_views(self) -> int:
        return 2

    @hookimpl
    def setup(self, tasks: Tasks) -> None:
        self.scale = nn.Parameter(torch.ones(()))

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, tuple[Tensor, Tensor]]:
        return {f"compare/{task.name}": self.term(step, task.name) for task in step.tasks}

    def term(self, step: Step, name: str) -> tuple[Tensor, Tensor]:
        task = step.tasks[name]
        valid = step.valid(name)
        wrong = (step.predictions[name][1] * self.scale - task.encode(step.targets[name])).square()
        return torch.where(valid, wrong, torch.zeros_like(wrong)).sum(), valid.sum()


@plugin
class ReadsBlanks:
    """Takes blank depth for depth."""

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor]:
        return {"depth": F.l1_loss(step.predictions["depth"][0], step.targets["depth"])}


@plugin
class SometimesNothing:
    """Returns nothing when nothing is labelled."""

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor]:
        return {"pull": squares(step)} if step.labelled.any() else {}


@plugin
class SometimesConstant:
    """Returns a plain zero when nothing is labelled."""

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor]:
        return {"pull": squares(step) if step.labelled.any() else torch.zeros(())}


@plugin
class SometimesWithout(Compare):
    """Leaves its parameter out when nothing is labelled."""

    @hookimpl
    def count_views(self) -> int:
        return 1

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor]:
        return {"pull": squares(step) * (self.scale if step.labelled.any() else 1)}


@plugin
class MeanOfNothing:
    """Takes the mean over labelled samples, even if there is none."""

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor]:
        size = step.predictions["depth"][0].square().mean((1, 2, 3))
        has = step.labelled[:, step.tasks.position("depth")].float()
        return {"depth": (size * has).sum() / has.sum()}


@plugin
class Untrained(Compare):
    """Has a parameter that it does not use."""

    @hookimpl
    def count_views(self) -> int:
        return 1

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor]:
        return {"pull": squares(step)}


@plugin
class Unaveraged:
    """One value per sample."""

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor]:
        return {"depth": step.predictions["depth"][0].square().mean((1, 2, 3))}


@plugin
class FillsIn:
    """Writes predictions into the labels that are missing."""

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor]:
        step.targets["depth"].copy_(torch.where(step.valid("depth"), step.targets["depth"], 1.0))
        return {"pull": squares(step)}


@plugin
class LoopsOverSamples:
    """Looks at every sample's labels on the host."""

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor]:
        rows = [p for p, has in zip(step.predictions["depth"][0], step.labelled.any(1).tolist(), strict=True) if has]
        return {"pull": squares(step) + sum(row.square().mean() for row in rows)}


@plugin
class Noisy:
    """Adds noise from the global generator."""

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor]:
        prediction = step.predictions["depth"]
        return {"noise": (prediction * torch.rand_like(prediction)).mean()}


@plugin
class InHalf:
    """Sums up in the precision that the network happens to have."""

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor]:
        return {"pull": torch.stack([p.square().mean() for p in step.predictions.values()]).sum()}


@plugin
class Nothing:
    """Adds nothing."""

    @hookimpl
    def compute_regularizer(self, step: Step) -> None:
        return None


@pytest.mark.parametrize(
    ("broken", "check", "message"),
    [
        (ReadsBlanks(), "test_what_an_invalid_pixel_holds_does_not_matter", "became"),
        (SometimesNothing(), "test_has_the_same_terms_whatever_is_labelled", "return a zero"),
        (Nothing(), "test_has_the_same_terms_whatever_is_labelled", "adds_nothing = False"),
        (SometimesConstant(), "test_builds_the_same_graph_whatever_is_labelled", "does not depend on its inputs"),
        (SometimesWithout(), "test_builds_the_same_graph_whatever_is_labelled", "plugin.scale"),
        (MeanOfNothing(), "test_is_finite_whatever_is_labelled", "nan"),
        (Untrained(), "test_every_parameter_is_trained", "plugin.scale"),
        (Unaveraged(), "test_terms_are_scalars_or_sums_with_counts", r"\(4,\)"),
        (FillsIn(), "test_leaves_the_step_as_it_was", "targets.depth was changed"),
        (LoopsOverSamples(), "test_runs_on_the_meta_device", "meta"),
        (Noisy(), "test_same_step_same_value", "differ"),
        (InHalf(), "test_computes_half_precision_in_float32", "pull: torch.bfloat16; promote"),
    ],
)
def test_a_faulty_regularizer_is_rejected(broken: Any, check: str, message: str) -> None:
    with pytest.raises((AssertionError, RuntimeError, ContractError), match=message):
        getattr(Regular(), check)(broken)


@pytest.mark.parametrize("sound", [Pull(), Compare()])
def test_a_sound_regularizer_passes_every_check(sound: Any) -> None:
    assert failures(Regular, sound) == {}


def test_a_regularizer_that_adds_nothing_says_so() -> None:
    class Empty(Regular):
        adds_nothing = True

    assert failures(Empty, Nothing()) == {}
    assert list(failures(Empty, Pull())) == ["test_has_the_same_terms_whatever_is_labelled"]
