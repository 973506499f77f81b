"""Joint-Task Regularization as a plugin.

Shape letters: B samples, O channels of all tasks together, H and W image size.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal

import torch
from attrs import field
from attrs.validators import ge, gt, in_, optional
from torch import Tensor, nn

from mtl_core.errors import MtlError, nearest
from mtl_core.nn import Latent, Networks
from mtl_core.plugin import help, hookimpl, plugin
from mtl_core.step import Step
from mtl_core.tasks import Depth, Tasks
from mtl_jtr.distances import Kind, distance, spread
from mtl_jtr.known import gradients_now, with_gradients
from mtl_jtr.stacks import all_predicted, full, stacks

DEAD = 1e-3
"""Mean distance below which the term pulls at nothing: alive, a cosine distance is two orders larger."""

log = logging.getLogger("mtl")


def trained_by_something(instance: Any, attribute: Any, value: str) -> None:
    if value == "reconstruction" and not instance.reconstruct:
        raise ValueError('"reconstruction" with reconstruct = false leaves nothing that trains g; use "both"')


@plugin
class JTR(nn.Module):
    """Joint-Task Regularization: all predictions are regularized together in one learned joint-task space.

    Nishi et al., "Joint-Task Regularization for Partially Labeled Multi-Task Learning", CVPR 2024, Eq. 4 to 6. Beyond
    the paper: the options against a collapsed latent space (``train_encoder_on``, ``unpool``, ``centred``).
    """

    c_dist: float = field(default=4.0, validator=ge(0.0), metadata=help("coefficient of the distance"))
    c_recon: float = field(default=2.0, validator=ge(0.0), metadata=help("coefficient of the reconstruction"))
    distance: Kind = field(default="cosine", validator=in_(("cosine", "l1", "l2")), metadata=help("L_Dist (Tab. 16)"))
    per_location: bool = field(default=False, metadata=help("distance per location of the latent, not over all of it"))
    centred: bool = field(default=False, metadata=help("subtract the batch's mean latent before the distance"))
    reconstruct: bool = field(default=True, metadata=help("train g to reconstruct the stacks (off: Tab. 8)"))
    train_encoder_on: Literal["both", "reconstruction"] = field(
        default="both",
        validator=[in_(("both", "reconstruction")), trained_by_something],
        metadata=help("which terms train g's encoder; the paper: both"),
    )
    unpool: Literal["indices", "upsample"] = field(
        default="indices", validator=in_(("indices", "upsample")), metadata=help("how g's decoder enlarges")
    )
    bottleneck: int | None = field(
        default=None, validator=optional(gt(0)), metadata=help("channels of the latent (Tab. 17); none: 8 · width")
    )
    width: int | None = field(
        default=None, validator=optional(gt(0)), metadata=help("channels of g's first level; none: the backbone's")
    )
    channels_last: bool = field(default=True, metadata=help("memory format of g: colours of a pixel side by side"))
    depth_scale: float = field(default=1.0, validator=gt(0.0), metadata=help("metres per unit of depth in the stacks"))
    tasks: tuple[str, ...] = field(default=(), metadata=help("tasks in the stacks; empty: all"))
    unlabelled: Literal["ignore", "consistency"] = field(
        default="ignore",
        validator=in_(("ignore", "consistency")),
        metadata=help("samples without any label: no distance, or the distance of two views (Sec. 4.4)"),
    )

    @property
    def views(self) -> int:
        return 2 if self.unlabelled == "consistency" else 1

    @hookimpl
    def setup(self, name: str, tasks: Tasks, networks: Networks) -> None:
        self.name, self.stacked = name, chosen(name, tasks, self.tasks)
        self.scales = {t.name: self.depth_scale if isinstance(t, Depth) else 1.0 for t in self.stacked}
        channels = sum(task.channels for task in self.stacked)
        options = {"width": self.width, "bottleneck": self.bottleneck}
        self.g: Any
        if self.reconstruct:
            self.g = networks.autoencoder(channels, channels, unpool=self.unpool, **options)
        else:
            self.g = networks.encoder(channels, **options)
        if self.channels_last:
            self.g.to(memory_format=torch.channels_last)
        self.warned = False

    def encode(self, stack: Tensor) -> Latent:
        """g_θ1: the joint-task latent of a stack, and what the decoder needs."""
        if self.channels_last:
            stack = stack.contiguous(memory_format=torch.channels_last)
        latent: Latent = self.g.encode(stack) if self.reconstruct else self.g(stack)
        return latent

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor]:
        own = stacks(step, self.stacked, self.scales)
        # Leaves: the reconstruction must not reach the predictions; the distance does, by `reattach`.
        attached = [*own, *self.other_view(step)]
        leaves = [stack.detach().requires_grad_() for stack in attached]
        latents = [self.encode(leaf) for leaf in leaves]
        per_sample = self.distances(step, [full(latent.features) for latent in latents])
        terms = {"distance": self.reattach(self.c_dist * per_sample.mean(), leaves, attached)}
        if self.reconstruct:
            terms["reconstruction"] = self.c_recon * self.reconstruction(step, latents[:2], leaves[:2])
        step.log("latent_distance", per_sample.mean())
        step.log("latent_cosine", spread(full(latents[1].features.detach())))
        return terms

    def other_view(self, step: Step) -> list[Tensor]:
        """Ŷ of the second view, for samples without any label."""
        return [all_predicted(step, self.stacked, 1, self.scales)] if self.views == 2 else []

    def distances(self, step: Step, latents: list[Tensor]) -> Tensor:
        """L_Dist per sample, (B,): of Ŷ and Y; of the two views' Ŷ (Sec. 4.4), or 0, where a sample has no label."""
        options = (self.distance, self.per_location, self.centred)
        labelled = distance(latents[0], latents[1], *options)
        other = distance(latents[0], latents[2], *options) if self.views == 2 else torch.zeros_like(labelled)
        columns = [step.tasks.position(task) for task in self.stacked.names]
        has_label = torch.stack([step.labelled[:, k] for k in columns]).any(0)
        return torch.where(has_label, labelled, other)

    def reattach(self, value: Tensor, leaves: list[Tensor], attached: list[Tensor]) -> Tensor:
        """The distance, with its gradient at the stacks put back into the graph; g's own flow through ``value``.

        ∂D/∂stack comes from a product with g's encoder that computes no weight gradients.
        """
        own = value if self.train_encoder_on == "both" else value.detach()
        return own + with_gradients(torch.zeros_like(value), attached, gradients_now(value, leaves, retain_graph=True))

    def reconstruction(self, step: Step, latents: list[Latent], leaves: list[Tensor]) -> Tensor:
        """L_Recon of both detached stacks: the tasks' own losses, added over tasks and stacks."""
        own, known = (self.decode(latent, leaf.detach()) for latent, leaf in zip(latents, leaves, strict=True))
        losses = {task: own[0][task] + known[0][task] for task in self.stacked.names}
        for task, value in losses.items():
            step.log(f"reconstruction/{task}", value)
        at_decoder = [a.add_(b) for a, b in zip(own[2], known[2], strict=True)]
        reached = [latent.features for latent in latents] + self.decoder_parameters()
        return with_gradients(torch.stack(list(losses.values())).sum(), reached, [own[1], known[1], *at_decoder])

    def decode(self, latent: Latent, stack: Tensor) -> tuple[dict[str, Tensor], Tensor, list[Tensor]]:
        """Each task's loss of g_θ2's output against a stack, and the sum's gradients at the latent and at θ2.

        Taken at once, so that the activations of one decoding are gone before the next begins.
        """
        features = latent.features.detach().requires_grad_()
        losses = self.reconstructed(self.g.decode(latent._replace(features=features)), stack)
        total = torch.stack(list(losses.values())).sum()
        at_latent, *at_decoder = gradients_now(total, [features, *self.decoder_parameters()])
        return {task: loss.detach() for task, loss in losses.items()}, at_latent, at_decoder

    def decoder_parameters(self) -> list[nn.Parameter]:
        """θ2."""
        return [*self.g.decoder.parameters(), *self.g.head.parameters()]

    def reconstructed(self, decoded: Tensor, stack: Tensor) -> dict[str, Tensor]:
        """Each task's loss of g's output against a stack, both (B, O, H, W)."""
        sizes = [task.channels for task in self.stacked]
        pairs = zip(self.stacked, torch.split(full(decoded), sizes, 1), torch.split(stack, sizes, 1), strict=True)
        return {task.name: task.soft_loss(output, target).mean() for task, output, target in pairs}

    @hookimpl
    def after_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        found = metrics.get(f"{self.name}/latent_distance", 1.0)
        if self.distance == "cosine" and found < DEAD and not self.warned:
            self.warned = True
            log.warning(
                "%s: the latent distance is %.1e in epoch %d: the latent space has collapsed, the term trains nothing;"
                ' try train_encoder_on = "reconstruction" with unpool = "upsample"',
                self.name, found, epoch,
            )  # fmt: skip


def chosen(name: str, tasks: Tasks, names: tuple[str, ...]) -> Tasks:
    """The tasks to stack, all dense."""
    unknown = [n for n in names if n not in tasks.names]
    if unknown:
        raise MtlError(
            f"{name}.tasks: the data set has no task {unknown[0]!r}{nearest(unknown[0], tasks.names)}"
            f" (its tasks: {', '.join(tasks.names)})"
        )
    selected = tasks.select(names) if names else tasks
    flat = [task.name for task in selected if not task.dense]
    if flat:
        raise MtlError(
            f"{name}: task {flat[0]!r} has one value per image and cannot be stacked with maps;"
            f" leave it out: tasks = {[t.name for t in selected if t.dense]}"
        )
    return selected
