"""The façade: places, chains, names in errors."""

import pytest
import torch
from attrs import field
from torch import Tensor

from mtl_core.data.sample import MultiTaskDataset, Sample
from mtl_core.errors import ContractError, ExperimentError
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.hooks.relay import Hooks
from mtl_core.step.step import Step
from mtl_core.testing import StubBackbone
from mtl_core.testing.toys import TOY_TASKS, Shapes, ToyData, ToyLabels, ToyNetwork


@plugin
class Add:
    amount: float = field(default=1.0)

    @hookimpl
    def augment(self, images: Tensor) -> Tensor:
        return images + self.amount


@plugin
class Double:
    @hookimpl
    def augment(self, images: Tensor) -> Tensor:
        return images * 2


@plugin
class Same:
    @hookimpl
    def augment(self) -> None:
        return None


@plugin
class Wrong:
    @hookimpl
    def make_label_mask(self, size: int) -> Tensor:
        return torch.ones(size, 1)


def test_a_chain_runs_in_the_order_of_the_experiment() -> None:
    start = torch.ones(1)
    generator = torch.Generator()
    assert Hooks({"a": Add(), "s": Same(), "d": Double()}, required=()).augment(start, generator) == 4
    assert Hooks({"d": Double(), "a": Add()}, required=()).augment(start, generator) == 3


def test_an_empty_required_place_is_an_error_that_names_it() -> None:
    with pytest.raises(ExperimentError) as caught:
        Hooks({"data": ToyData(), "net": ToyNetwork()}, source="x.toml")
    assert "x.toml: 1 problem" in str(caught.value)
    assert "make_label_mask: no plugin fills this place" in str(caught.value)


def test_two_plugins_for_one_place_are_an_error_that_shows_the_line() -> None:
    both = {"data": ToyData(), "a": ToyLabels(), "b": ToyLabels(), "net": ToyNetwork()}
    with pytest.raises(ExperimentError) as caught:
        Hooks(both)
    assert 'a and b both fill this place; choose one: [use] make_label_mask = "a"' in str(caught.value)
    assert Hooks(both, {"make_label_mask": "b"}).places["make_label_mask"] == "b"


def test_use_must_name_a_hook_and_a_plugin_that_fills_it() -> None:
    with pytest.raises(ExperimentError) as caught:
        Hooks({"d": Double()}, {"make_label_musk": "d", "make_label_mask": "d"}, required=())
    assert 'did you mean "make_label_mask"?' in str(caught.value)
    assert 'plugin "d" does not fill it' in str(caught.value)


def test_a_mask_of_the_wrong_shape_is_refused() -> None:
    hooks = Hooks({"w": Wrong()}, required=())
    with pytest.raises(ContractError, match=r'"w".*torch.float32 \(5, 1\), expected torch.bool \(5, 3\)'):
        hooks.make_label_mask(5, TOY_TASKS, torch.Generator(), None)


def test_runs_work_on_copies() -> None:
    original = Add(amount=3.0)
    hooks = Hooks({"a": original}, required=())
    assert hooks.plugins["a"] is not original
    assert hooks.plugins["a"].amount == 3.0


@plugin
class Crop:
    @hookimpl
    def transform_sample(self, sample: Sample, generator: torch.Generator) -> Sample:
        return Sample(sample.image + torch.rand((), generator=generator), sample.targets)


def test_transforms_draw_from_the_generator_alone() -> None:
    hooks = Hooks({"c": Crop()}, required=())
    one, two = (hooks.transform_sample(Sample(torch.zeros(1), {}), torch.Generator().manual_seed(7)) for _ in range(2))
    assert one.image == two.image


@plugin
class Logs:
    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor]:
        step.log("seen", torch.tensor(5.0))
        return {"term": torch.tensor(1.0)}


def test_terms_and_logged_values_carry_the_name_of_the_instance() -> None:
    step = Step(**dict.fromkeys([a for a in Step.__slots__ if a not in ("logged", "__weakref__")]))
    terms = Hooks({"logs#2": Logs()}, required=()).compute_regularizer(step)
    assert list(terms) == ["logs#2/term"]
    assert list(step.logged) == ["logs#2/seen"]


@plugin
class Counts:
    @hookimpl
    def setup(self, labelled: Tensor | None) -> None:
        self.found = None if labelled is None else labelled.sum(0).tolist()


def test_setup_is_told_the_label_mask_where_there_is_one() -> None:
    for mask, expected in ((torch.tensor([[True, False, True]] * 4), [4, 0, 4]), (None, None)):
        hooks = Hooks({"c": Counts()}, required=())
        hooks.setup(TOY_TASKS, (32, 32), StubBackbone(4), lambda name: None, mask)
        assert hooks.plugins["c"].found == expected


@plugin
class Misnamed:
    """Names its splits in a way that is none."""

    @hookimpl
    def name_splits(self) -> str:
        return "train"

    @hookimpl
    def build_dataset(self, split: str) -> MultiTaskDataset:
        return Shapes(8, (32, 32), split)


def test_names_must_be_a_list() -> None:
    with pytest.raises(ContractError, match=r'plugin "data": name_splits returned \'train\', expected names of splits'):
        Hooks({"data": Misnamed()}, required=()).splits  # noqa: B018 - read for its error
