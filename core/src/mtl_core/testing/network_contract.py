"""Contract of networks: a backbone and one head per task.

Shape letters: N images, O_t channels of task t, C channels of z, H and W image size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mtl_core.tasks.task import Task
from mtl_core.testing.contract import PluginContract, Untouched, same, under
from mtl_core.training.branching import LossScale, branch
from mtl_core.training.network import Network

IMAGES = 2


class BackboneContract(PluginContract):
    """``build_backbone`` and ``build_heads``: z, and a prediction of every task from it."""

    hook = "build_backbone"
    other_hooks = ("build_heads",)
    batch_independent: ClassVar[bool] = True
    """Whether, in evaluation, a prediction depends on its own image only."""

    def build(self, plugin: Any, seed: int = 0) -> Network:
        """The network, built as core builds it."""
        hooks = self.prepare(plugin)
        torch.manual_seed(seed)
        backbone = hooks.build_backbone(self.image_size)
        torch.manual_seed(seed + 1)
        return Network(backbone, hooks.build_heads(backbone, self.tasks, self.image_size), self.tasks)

    def images(self, seed: int = 0) -> Tensor:
        return torch.rand(IMAGES, 3, *self.image_size, generator=torch.Generator().manual_seed(seed))

    def shape(self, task: Task) -> tuple[int, ...]:
        return (IMAGES, task.channels, *(self.image_size if task.dense else ()))

    def through_the_seam(self, network: Network, shape: Callable[..., Any]) -> dict[str, Tensor]:
        z = network.backbone(self.images())
        return network.decode(branch(z, len(self.tasks), shape, LossScale()))

    def test_fills_both_places(self, plugin: Any) -> None:
        assert hasattr(getattr(plugin, "build_heads", None), "mtl_impl"), "no @hookimpl build_heads"

    def test_backbone_names_its_channels(self, plugin: Any) -> None:
        backbone = self.build(plugin).backbone
        z = backbone(self.images())
        channels = getattr(backbone, "channels", None)
        found: Any = z.shape[1] if isinstance(z, Tensor) else tuple(level.shape[1] for level in z)
        assert channels == found, f"backbone.channels is {channels}, z has {found}"
        levels = (z,) if isinstance(z, Tensor) else z
        assert all(len(level) == IMAGES for level in levels), "z has not one entry per image"

    def test_every_task_has_a_prediction_of_its_shape(self, plugin: Any) -> None:
        predictions = self.build(plugin)(self.images())
        for task in self.tasks:
            found = tuple(predictions[task.name].shape)
            assert found == self.shape(task), f"{task.name}: {found}, expected {self.shape(task)}"
            assert predictions[task.name].isfinite().all(), f"{task.name}: not finite"

    def test_same_seed_same_network(self, plugin: Any) -> None:
        a, b = (self.build(plugin).state_dict() for _ in range(2))
        assert all(same(a[name], b[name]) for name in a), "built twice from one seed, the weights differ"
        other = self.build(plugin, seed=5).state_dict()
        assert any(not same(a[name], other[name]) for name in a), "another seed gives the same weights"

    def test_every_parameter_is_trained(self, plugin: Any) -> None:
        """On several ranks a parameter that no loss reaches makes DDP raise."""
        network = self.build(plugin)
        torch.autograd.backward(sum_of(network(self.images())))
        idle = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
        assert not idle, f"parameters without gradient: {idle}"

    def test_heads_share_nothing(self, plugin: Any) -> None:
        """What heads share belongs below the seam, into the backbone."""
        network = self.build(plugin)
        predictions = network(self.images())
        for task in self.tasks:
            network.zero_grad()
            torch.autograd.backward(predictions[task.name].square().sum(), retain_graph=True)
            for name, parameter in network.heads.named_parameters():
                mine = name.startswith(f"{task.name}.")
                assert mine or parameter.grad is None, f"the loss of {task.name} reaches heads.{name}"

    def test_heads_begin_with_no_in_place_operation(self, plugin: Any) -> None:
        """Their input is a view of z, one of K."""
        network = self.build(plugin)
        weights = torch.ones(len(self.tasks))
        plain = under(0, lambda: sum_of(network(self.images())))
        predictions = under(0, lambda: self.through_the_seam(network, lambda branches, scale: weights))
        assert torch.allclose(sum_of(predictions), plain, rtol=1e-4), "heads see another z behind the seam"
        torch.autograd.backward(sum_of(predictions))

    def test_leaves_images_as_they_were(self, plugin: Any) -> None:
        images = self.images()
        kept = Untouched({"images": images})
        self.build(plugin)(images)
        kept.check()

    def test_evaluation_is_deterministic(self, plugin: Any) -> None:
        network = self.build(plugin).eval()
        a = network(self.images())
        b = network(self.images())
        assert all(same(a[name], b[name]) for name in a), "two evaluations of one batch differ"

    def test_images_do_not_see_each_other_in_evaluation(self, plugin: Any) -> None:
        if not self.batch_independent:
            return
        network = self.build(plugin).eval()
        images = self.images()
        together = network(images)
        alone = network(images[:1])
        for name, prediction in alone.items():
            assert torch.allclose(together[name][:1], prediction, atol=1e-4), f"{name} depends on the batch"

    def test_follows_the_precision(self, plugin: Any) -> None:
        for name, prediction in self.build(plugin).double()(self.images().double()).items():
            assert prediction.dtype == torch.float64, f"{name}: {prediction.dtype} from a network in float64"

    def test_weights_can_be_saved_and_loaded(self, plugin: Any) -> None:
        first = self.build(plugin).eval()
        second = self.build(plugin, seed=5).eval()
        second.load_state_dict(first.state_dict())
        a = first(self.images())
        b = second(self.images())
        assert all(same(a[name], b[name]) for name in a), "loaded weights predict something else"

    def test_runs_on_the_meta_device(self, plugin: Any) -> None:
        """A host sync, a shape that depends on data, or a tensor left on another device raises there."""
        network: nn.Module = self.build(plugin).to("meta")
        torch.autograd.backward(sum_of(network(self.images().to("meta"))))


def sum_of(predictions: dict[str, Tensor]) -> Tensor:
    return torch.stack([prediction.square().mean() for prediction in predictions.values()]).sum()
