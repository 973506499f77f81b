"""Contract of networks: a backbone and one head per task.

Shape letters: N images, O_t channels of task t, C channels of z, H and W image size.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mtl_core.tasks.task import Task
from mtl_core.tasks.tasks import Tasks
from mtl_core.testing.contract import (
    MANY,
    ODD,
    REPEATS,
    NothingKept,
    PluginContract,
    Untouched,
    attempt,
    on_meta_device,
    same,
    through_a_file,
    under,
)
from mtl_core.testing.step_contract import seeded
from mtl_core.training.branching import LossScale, branch
from mtl_core.training.network import Network

IMAGES = 2


class BackboneContract(PluginContract):
    """``build_backbone`` and ``build_heads``: z, and a prediction of every task from it."""

    hook = "build_backbone"
    other_hooks = ("build_heads",)
    batch_independent: ClassVar[bool] = True
    """Whether, in evaluation, a prediction depends on its own image only."""
    trains_on_one_image: ClassVar[bool] = True
    """Whether a batch of one image can be trained on; batch norm of one value per channel cannot."""

    def build(
        self, plugin: Any, seed: int = 0, tasks: Tasks | None = None, size: tuple[int, int] | None = None
    ) -> Network:
        """The network, built as core builds it."""
        tasks = self.tasks if tasks is None else tasks
        size = self.image_size if size is None else size
        hooks = self.prepare(plugin, tasks, size)
        backbone = under(seed, lambda: hooks.build_backbone(size))
        heads = under(seed + 1, lambda: hooks.build_heads(backbone, tasks, size))
        return Network(backbone, heads, tasks)

    def images(self, seed: int = 0, count: int = IMAGES, size: tuple[int, int] | None = None) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(count, 3, *(self.image_size if size is None else size), generator=generator)

    def check_shapes(self, predictions: dict[str, Tensor], tasks: Tasks, count: int, size: tuple[int, int]) -> None:
        for task in tasks:
            found = tuple(predictions[task.name].shape)
            expected = (count, task.channels, *(size if task.dense else ()))
            what = f"{count} images of {size[0]} × {size[1]} pixels, {task.name}"
            assert found == expected, f"{what}: {found}, expected {expected}"
            assert predictions[task.name].isfinite().all(), f"{what}: not finite"

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
        self.check_shapes(self.build(plugin)(self.images()), self.tasks, IMAGES, self.image_size)

    def test_works_for_any_number_of_tasks(self, plugin: Any) -> None:
        for tasks in self.other_tasks():
            what = f"K = {len(tasks)} ({', '.join(tasks.names)})"
            network = attempt(what, partial(self.build, plugin, tasks=tasks))
            if network is not None:
                found = attempt(what, partial(network, self.images()))
                assert found is not None, f"{what}: refused in the forward pass; refuse in build_heads"
                self.check_shapes(found, tasks, IMAGES, self.image_size)

    def test_takes_odd_sizes(self, plugin: Any) -> None:
        what = f"images of {ODD[0]} × {ODD[1]} pixels"
        network = attempt(what, partial(self.build, plugin, size=ODD))
        if network is not None:
            found = attempt(what, partial(network, self.images(size=ODD)))
            assert found is not None, f"{what}: refused in the forward pass; refuse in build_backbone"
            self.check_shapes(found, self.tasks, IMAGES, ODD)

    def test_takes_one_image(self, plugin: Any) -> None:
        network = self.build(plugin).eval()
        self.check_shapes(network(self.images(count=1)), self.tasks, 1, self.image_size)
        if self.trains_on_one_image:
            network.train()
            found = attempt("a batch of one image in training", partial(network, self.images(count=1)))
            assert found is not None
            self.check_shapes(found, self.tasks, 1, self.image_size)

    def test_heads_give_what_losses_take(self, plugin: Any) -> None:
        """Losses of classes take logits: a softmax or sigmoid in the head would be applied twice."""
        network = self.build(plugin)
        with torch.no_grad():
            # large weights: logits leave 0..1 by far, what went through a softmax or sigmoid cannot
            for parameter in network.heads.parameters():
                parameter.mul_(50)
        predictions = network(self.images())
        for task in self.tasks:
            values = predictions[task.name]
            if takes_logits(task):
                inside = bool(((values >= 0) & (values <= 1)).all())
                assert not inside, f"{task.name}: the head gives 0 to 1, a softmax or sigmoid; give logits"

    def test_heads_see_nothing_but_z(self, plugin: Any) -> None:
        """What reaches a head beside the seam is a gradient that no method sees."""
        network = self.build(plugin).eval()
        z = network.backbone(self.images())
        before = network.decode([z] * len(self.tasks))
        # a head that reads what the backbone keeps of its last pass would see these images
        network.backbone(self.images(seed=1))
        after = network.decode([z] * len(self.tasks))
        for name, prediction in before.items():
            assert same(prediction, after[name]), f"the head of {name} sees more of the backbone than z"

    def test_goes_on_where_a_checkpoint_stopped(self, plugin: Any) -> None:
        """Whatever a network remembers lies in buffers: another one with its state predicts the same."""
        going = self.build(plugin)
        resumed = self.build(plugin, seed=5)
        for seed in range(3):
            under(seed, partial(going, self.images(seed)))
        resumed.load_state_dict(through_a_file(going.state_dict()))
        for training in (True, False):
            found = [under(9, partial(n.train(training), self.images(9))) for n in (going, resumed)]
            differ = [name for name in found[0] if not same(found[0][name], found[1][name])]
            assert not differ, (
                f"state outside buffers: the predictions of {differ} are others after saving and loading;"
                " register_buffer what is remembered"
            )

    def test_keeps_no_graph(self, plugin: Any) -> None:
        network = self.build(plugin)
        predictions = network(self.images())
        torch.autograd.backward(sum_of(predictions))
        kept = NothingKept({f"predictions.{name}": p for name, p in predictions.items()})
        del predictions
        kept.check(network)

    def test_leaves_the_backward_pass_to_core(self, plugin: Any) -> None:
        network = self.build(plugin)
        network(self.images())
        called = [name for name, parameter in network.named_parameters() if parameter.grad is not None]
        assert not called, f"calls backward(): {called[:3]} have a gradient after a forward pass"

    def test_same_seed_same_network(self, plugin: Any) -> None:
        a, b = (self.build(plugin).state_dict() for _ in range(2))
        assert all(same(a[name], b[name]) for name in a), "built twice from one seed, the weights differ"
        other = self.build(plugin, seed=5).state_dict()
        assert any(not same(a[name], other[name]) for name in a), "another seed gives the same weights"
        one, two = (under(seed, partial(self.left_over, plugin)) for seed in (1, 2))
        assert not same(one, two), "seeds torch's global generator: another seed gives the same weights; core seeds it"

    def left_over(self, plugin: Any) -> Tensor:
        """The global generator's state behind the building of a network."""
        hooks = self.prepare(plugin)
        hooks.build_heads(hooks.build_backbone(self.image_size), self.tasks, self.image_size)
        return torch.get_rng_state()

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

    def test_runs_in_half_precision(self, plugin: Any) -> None:
        network = self.build(plugin)
        with torch.autocast("cpu", torch.bfloat16):
            found = attempt("autocast to bfloat16", partial(network, self.images()))
        for name, prediction in (found or {}).items():
            assert prediction.isfinite().all(), f"{name}: not finite under autocast to bfloat16"

    def test_runs_on_the_meta_device(self, plugin: Any) -> None:
        """A host sync, a shape that depends on data, or a tensor left on another device raises there."""
        network: nn.Module = self.build(plugin).to("meta")
        images = self.images().to("meta")
        on_meta_device(lambda: torch.autograd.backward(sum_of(network(images))))
        for _ in range(REPEATS if len(network.state_dict()) < MANY else 2):
            on_meta_device(partial(network, images))


def takes_logits(task: Task) -> bool:
    """Whether a task's head gives logits: its label space is 0 to 1 for whatever the head gives."""
    noise = 10 * torch.randn(2, task.channels, *((8, 8) if task.dense else ()), generator=seeded(0))
    values = task.to_label_space(noise)
    return bool(((values >= 0) & (values <= 1)).all())


def sum_of(predictions: dict[str, Tensor]) -> Tensor:
    return torch.stack([prediction.square().mean() for prediction in predictions.values()]).sum()
