"""What contracts share: sound plugins pass, mistakes in a declaration are found, no check is weakened silently."""

from typing import Any

import pytest
import torch
from attrs import field
from torch import Tensor, nn

from mtl_core.errors import ContractError
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.options.fields import help
from mtl_core.testing import LossRuleContract, failures
from mtl_core.testing.contract import Untouched, checks_of, same


@plugin
class Sound:
    """Adds the losses up."""

    power: float | None = field(default=None, metadata=help("no use but to be an option"))
    names: tuple[str, ...] = field(default=("a", "b"), metadata=help("no use either"))

    @hookimpl
    def combine_losses(self, losses: Tensor) -> Tensor:
        return losses.sum()


@plugin
class Undocumented(Sound):
    @hookimpl
    def combine_losses(self, losses: Tensor) -> Tensor:
        return losses.sum()


@plugin
class NoSentence(Sound):
    """adds losses"""


@plugin
class Silent(Sound):
    """An option without help."""

    extra: int = 3


@plugin
class Unwritable(Sound):
    """An option that no file can carry."""

    device: torch.device = field(default=torch.device("cpu"), metadata=help("a torch object"))


@plugin
class Widened(Sound):
    """An option whose default is not of its type."""

    share: int = field(default=0.5, metadata=help("said to be whole, and half by default"))  # type: ignore[assignment]


@plugin
class Eager(nn.Module):
    """Learns before it is set up."""

    def __attrs_post_init__(self) -> None:
        self.scale = nn.Parameter(torch.ones(()))

    @hookimpl
    def combine_losses(self, losses: Tensor) -> Tensor:
        return losses.sum() * self.scale


class Bare:
    """No plugin at all."""

    def combine_losses(self, losses: Tensor) -> Tensor:
        return losses.sum()


@plugin
class Elsewhere:
    """Fills another place."""

    @hookimpl
    def augment(self, images: Tensor) -> Tensor:
        return images


@plugin
class Rounded:
    """An option that its converter changes."""

    digits: int = field(default=1, converter=lambda n: n + 1, metadata=help("grows with every copy"))

    @hookimpl
    def combine_losses(self, losses: Tensor) -> Tensor:
        return losses.sum()


@pytest.mark.parametrize(
    ("broken", "check", "message"),
    [
        (Undocumented(), "test_first_line_of_the_docstring_says_what_it_is", "no docstring"),
        (NoSentence(), "test_first_line_of_the_docstring_says_what_it_is", "no sentence"),
        (Silent(), "test_every_option_has_help", "extra"),
        (Unwritable(), "test_every_option_fits_an_experiment_file", "device"),
        (Widened(), "test_every_option_fits_an_experiment_file", "whole number"),
        (Eager(), "test_is_configuration_until_it_is_set_up", "make it in setup"),
        (Rounded(), "test_is_configuration_until_it_is_set_up", "digits is not kept"),
        (Bare(), "test_fills_its_place", "not declared with @plugin"),
        (Elsewhere(), "test_fills_its_place", "no @hookimpl combine_losses"),
    ],
)
def test_a_faulty_declaration_is_rejected(broken: Any, check: str, message: str) -> None:
    with pytest.raises(Exception, match=message):
        getattr(LossRuleContract(), check)(broken)


def test_a_sound_plugin_passes_every_check() -> None:
    assert failures(LossRuleContract, Sound()) == {}


def test_failures_name_the_check() -> None:
    found = failures(LossRuleContract, Silent())
    assert list(found) == ["test_every_option_has_help"]
    assert "extra" in str(found["test_every_option_has_help"])


def test_a_skip_needs_a_reason() -> None:
    with pytest.raises(ContractError, match="say why test_nan_stays_nan does not hold, found ' '"):
        type("TestNothing", (LossRuleContract,), {"skips": {"test_nan_stays_nan": " "}, "__module__": "somewhere"})


def test_a_skip_names_a_check_that_exists() -> None:
    with pytest.raises(ContractError, match="no check 'test_nan_stay_nan'; did you mean \"test_nan_stays_nan\""):
        type("TestNothing", (LossRuleContract,), {"skips": {"test_nan_stay_nan": "a good reason"}})


def test_a_check_cannot_be_overridden() -> None:
    body = {"test_nan_stays_nan": lambda self, plugin: None, "__module__": "somewhere"}
    with pytest.raises(ContractError, match="overrides a check"):
        type("TestNothing", (LossRuleContract,), body)


def test_further_checks_are_welcome() -> None:
    made = type("TestMore", (LossRuleContract,), {"test_more": lambda self, plugin: None, "__module__": "somewhere"})
    assert "test_more" in set(checks_of(made))


def test_a_skipped_check_is_not_run() -> None:
    class Excused(LossRuleContract):
        skips = {"test_every_option_has_help": "the option is explained elsewhere"}

    assert failures(Excused, Silent()) == {}


class TestSkipped(LossRuleContract):
    """Under pytest too: this would fail otherwise."""

    skips = {"test_every_option_has_help": "the option is explained elsewhere"}

    @pytest.fixture
    def plugin(self) -> Silent:
        return Silent()


def test_untouched_sees_one_changed_value() -> None:
    tensor = torch.tensor([1.0, float("nan")])
    kept = Untouched({"losses": tensor})
    kept.check()
    tensor[0] = 2
    with pytest.raises(AssertionError, match="losses was changed in place"):
        kept.check()


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (torch.tensor([1.0, float("nan")]), torch.tensor([1.0, float("nan")]), True),
        (torch.tensor([1.0]), torch.tensor([float("nan")]), False),
        (torch.tensor([1.0]), torch.tensor([1]), False),
        (torch.tensor([1.0]), torch.tensor([[1.0]]), False),
    ],
)
def test_same_means_equal_in_every_respect(a: Tensor, b: Tensor, expected: bool) -> None:
    assert same(a, b) is expected


def test_every_hook_that_takes_part_in_a_step_has_a_contract() -> None:
    from mtl_core import testing
    from mtl_core.hooks.spec_table import hook_arguments

    contracts = [getattr(testing, name) for name in testing.__all__ if name.endswith("Contract")]
    covered = {hook for contract in contracts for hook in (contract.hook, *contract.other_hooks)}
    no_contract = {"setup", "parameter_groups", "count_views", "before_step", "after_step", "name_splits"}
    no_contract |= {"before_run", "build_extra_datasets", "relabel", "draw_pictures", "after_run", "after_predict"}
    assert set(hook_arguments()) - no_contract == covered - {""}
