"""Joint-Task Regularization as a plugin.

Shape letters: B samples, O channels of all tasks together, H and W image size.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Literal

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
from mtl_jtr.stacks import all_predicted, full, stacks

SCALE = 2.0**13
"""Keeps the distance's gradient representable in half precision; a power of two, exact in the others."""

DEAD = 1e-3
"""Mean distance below which the term pulls at nothing: alive, a cosine distance is two orders larger."""

log = logging.getLogger("mtl")


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
        validator=in_(("both", "reconstruction")),
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
        if self.reconstruct:
            self.g = networks.autoencoder(channels, channels, unpool=self.unpool, **options)
        else:
            self.g = networks.encoder(channels, **options)
        self.warned = False

    def encode(self, stack: Tensor) -> tuple[Tensor, Latent]:
        """g_θ1: the joint-task latent of a stack, and what the decoder needs."""
        latent: Latent = self.g.encode(stack) if self.reconstruct else self.g(stack)
        return latent.features, latent

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor]:
        own = stacks(step, self.stacked, self.scales)
        # Leaves: the reconstruction must not reach the predictions; the distance does, by `reattach`.
        attached = [*own, *self.other_view(step)]
        leaves = [stack.detach().requires_grad_() for stack in attached]
        encoded = [self.encode(leaf) for leaf in leaves]
        per_sample = self.distances(step, [features for features, _ in encoded])
        terms = {"distance": self.reattach(self.c_dist * per_sample.mean(), leaves, attached)}
        if self.reconstruct:
            terms["reconstruction"] = self.c_recon * self.reconstruction(step, leaves[:2], encoded[:2])
        step.log("latent_distance", per_sample.mean())
        step.log("latent_cosine", spread(full(encoded[1][0].detach())))
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
        """The distance, with its gradient at the stacks put back into the graph.

        ∂D/∂stack comes from a product with g's encoder that computes no weight gradients. It enters as ⟨stack, ∂D⟩,
        whose value is subtracted again. g's own gradients flow through ``value``.
        """
        gradients = torch.autograd.grad(SCALE * value, leaves, retain_graph=True)
        linear = torch.stack([(s * (g / SCALE)).sum() for s, g in zip(attached, gradients, strict=True)]).sum()
        own = value if self.train_encoder_on == "both" else value.detach()
        return own + linear - linear.detach()

    def reconstruction(self, step: Step, leaves: list[Tensor], encoded: list[tuple[Tensor, Latent]]) -> Tensor:
        """L_Recon of both detached stacks: the tasks' own losses, added over tasks and stacks."""
        parts = [
            self.reconstructed(self.g.decode(latent), leaf.detach())
            for leaf, (_, latent) in zip(leaves, encoded, strict=True)
        ]
        for task in self.stacked.names:
            step.log(f"reconstruction/{task}", parts[0][task] + parts[1][task])
        return torch.stack([loss for part in parts for loss in part.values()]).sum()

    def reconstructed(self, decoded: Tensor, stack: Tensor) -> dict[str, Tensor]:
        """Each task's loss of g's output against a stack, both (B, O, H, W)."""
        sizes = [task.channels for task in self.stacked]
        pairs = zip(self.stacked, full(decoded).split(sizes, 1), stack.split(sizes, 1), strict=True)
        return {task.name: task.soft_loss(output, target).mean() for task, output, target in pairs}

    @hookimpl
    def after_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        found = metrics.get(f"{self.name}/latent_distance", 1.0)
        if self.distance == "cosine" and found < DEAD and not self.warned:
            self.warned = True
            log.warning(
                "%s: the latent distance is %.1e in epoch %d: the latent space has collapsed and the term trains nothing;"
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
