"""Joint-Task Regularization as a plugin.

Shape letters: B samples, O channels of all tasks together, H and W image size.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mtl_core import About, Depth, MtlError, Step, Tasks, draw_windows, hookimpl, plugin
from mtl_jtr import released
from mtl_jtr.distances import distance, spread
from mtl_jtr.known import gradients_now, with_gradients
from mtl_jtr.options import Options, Switches, switches
from mtl_jtr.stacks import all_predicted, full, stacks
from mtl_nn import Latent, Networks, Norm

Judge = Callable[[Tensor], dict[str, Tensor]]
"""g's output (B, O, H, W) → each task's loss, scalars."""

DEAD = 1e-3
"""Mean distance below which the term pulls at nothing: alive, a cosine distance is two orders larger."""

log = logging.getLogger("mtl")


@plugin
class JTR(Options, nn.Module):
    """Joint-Task Regularization: all predictions are regularized together in one learned joint-task space.

    Nishi et al., "Joint-Task Regularization for Partially Labeled Multi-Task Learning", CVPR 2024, Eq. 4 to 6. Beyond
    the paper: the options against a collapsed latent space (``train_encoder_on``, ``unpool``, ``centred``), and
    ``variant = "released"``, what the authors' code computes.
    """

    about = About(
        formula=(
            "c_dist · D(g₁(Ŷ), g₁(Y)) + c_recon · [R(g(⟨Ŷ⟩), ⟨Ŷ⟩) + R(g(⟨Y⟩), ⟨Y⟩)]; Ŷ: all predictions, Y: "
            "labels where there are any, else predictions"
        ),
        source=(
            "Nishi, Kim, Li, Pfister, Joint-Task Regularization for Partially Labeled Multi-Task Learning, CVPR "
            "2024, Eq. 4 to 6"
        ),
        cost=(
            "two encodings, two decodings and one product with the encoder per step: about 3 supervised steps in "
            "time, 2 in memory; linear in K"
        ),
        departs=(
            "the paper's equations; variant = \"released\" computes what the authors' code does "
            "(docs/methods/jtr.md lists every difference)"
        ),
    )

    @property
    def views(self) -> int:
        if self.switches.separate:
            return 3
        return 2 if self.unlabelled == "consistency" else 1

    @property
    def switches(self) -> Switches:
        return switches(self)

    @hookimpl
    def setup(self, name: str, tasks: Tasks, backbone: nn.Module) -> None:
        self.name, self.stacked = name, chosen(name, tasks, self.tasks)
        self.scales = {t.name: self.depth_scale if isinstance(t, Depth) else 1.0 for t in self.stacked}
        self.g: Any = make_network(name, self, Networks.of(backbone), sum(task.label_channels for task in self.stacked))
        if self.channels_last:
            self.g.to(memory_format=torch.channels_last)
        self.warned = False

    def encode(self, stack: Tensor) -> Latent:
        """g_θ1: the joint-task latent of a stack, and what the decoder needs."""
        if self.channels_last:
            stack = stack.contiguous(memory_format=torch.channels_last)
        latent: Latent = self.g.encode(stack) if self.reconstruct or self.network == "backbone" else self.g(stack)
        return latent

    @hookimpl
    def choose_windows(self, views: int, samples: int, generator: torch.Generator) -> Tensor | None:
        scales = self.switches.crops if self.switches.separate else ()
        return draw_windows(views, samples, scales, generator) if scales else None

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor]:
        if not self.switches.as_in_the_paper:
            return released.terms(self, step)
        own = stacks(step, self.stacked, self.scales)
        # Leaves: the reconstruction must not reach the predictions; the distance does, by `reattach`.
        attached = self.attached(step, [*own, *self.other_view(step)])
        leaves = [stack.detach().requires_grad_() for stack in attached]
        latents = [self.encode(leaf) for leaf in leaves]
        per_sample = self.distances(step, [full(latent.features) for latent in latents])
        terms = {"distance": self.reattach(self.c_dist * per_sample.mean(), leaves, attached)}
        if self.reconstruct:
            judges = [partial(self.reconstructed, stack=leaf.detach()) for leaf in leaves[:2]]
            terms["reconstruction"] = self.c_recon * self.reconstruction(step, latents[:2], judges)
        step.log("latent_distance", per_sample.mean())
        step.log("latent_cosine", spread(full(latents[1].features.detach())))
        return terms

    def attached(self, step: Step, stacks: Sequence[Tensor]) -> list[Tensor]:
        """Ŷ, Y and the second view's Ŷ, detached where a sample's distance does not use them: batch norm sees them."""
        labelled = self.has_label(step)[:, None, None, None]
        first = torch.ones_like(labelled) if self.views == 2 else labelled
        masks = (first, labelled, ~labelled)[: len(stacks)]
        return [torch.where(used, x, x.detach()) for used, x in zip(masks, stacks, strict=True)]

    def has_label(self, step: Step) -> Tensor:
        """Whether a sample carries any label of the stacked tasks, bool (B,)."""
        return torch.stack([step.labelled[:, step.tasks.position(t)] for t in self.stacked.names]).any(0)

    def other_view(self, step: Step) -> list[Tensor]:
        """Ŷ of the second view, for samples without any label."""
        return [all_predicted(step, self.stacked, 1, self.scales)] if self.views == 2 else []

    def distances(self, step: Step, latents: list[Tensor]) -> Tensor:
        """L_Dist per sample, (B,): of Ŷ and Y; of the two views' Ŷ (Sec. 4.4), or 0, where a sample has no label."""
        options = (self.distance, self.switches.per_location, self.centred)
        labelled = distance(latents[0], latents[1], *options)
        other = distance(latents[0], latents[2], *options) if self.views == 2 else torch.zeros_like(labelled)
        return torch.where(self.has_label(step), labelled, other)

    def reattach(self, value: Tensor, leaves: list[Tensor], attached: list[Tensor]) -> Tensor:
        """The distance, with its gradient at the stacks put back into the graph; g's own flow through ``value``.

        ∂D/∂stack comes from a product with g's encoder that computes no weight gradients.
        """
        own = value if self.train_encoder_on == "both" else value.detach()
        return own + with_gradients(torch.zeros_like(value), attached, gradients_now(value, leaves, retain_graph=True))

    def reconstruction(self, step: Step, latents: list[Latent], judges: Sequence[Judge]) -> Tensor:
        """L_Recon of both detached stacks: what the judges say, added over tasks and stacks."""
        own, known = (self.decode(latent, judge) for latent, judge in zip(latents, judges, strict=True))
        losses = {task: own[0][task] + known[0][task] for task in self.stacked.names}
        for task, value in losses.items():
            step.log(f"reconstruction/{task}", value)
        at_decoder = [a.add_(b) for a, b in zip(own[2], known[2], strict=True)]
        reached = [latent.features for latent in latents] + self.decoder_parameters()
        return with_gradients(torch.stack(list(losses.values())).sum(), reached, [own[1], known[1], *at_decoder])

    def decode(self, latent: Latent, judge: Judge) -> tuple[dict[str, Tensor], Tensor, list[Tensor]]:
        """Each task's loss of g_θ2's output, and the sum's gradients at the latent and at θ2.

        Taken at once, so that the activations of one decoding are gone before the next begins.
        """
        features = latent.features.detach().requires_grad_()
        losses = judge(self.g.decode(latent._replace(features=features)))
        total = torch.stack(list(losses.values())).sum()
        at_latent, *at_decoder = gradients_now(total, [features, *self.decoder_parameters()])
        return {task: loss.detach() for task, loss in losses.items()}, at_latent, at_decoder

    def decoder_parameters(self) -> list[nn.Parameter]:
        """θ2."""
        return [*self.g.decoder.parameters(), *self.g.head.parameters()]

    def reconstructed(self, decoded: Tensor, stack: Tensor) -> dict[str, Tensor]:
        """Each task's loss of g's output against a stack, both (B, O, H, W)."""
        sizes = [task.label_channels for task in self.stacked]
        pairs = zip(self.stacked, torch.split(full(decoded), sizes, 1), torch.split(stack, sizes, 1), strict=True)
        return {task.name: task.label_loss(output, target).mean() for task, output, target in pairs}

    @hookimpl
    def draw_pictures(self, step: Step) -> dict[str, dict[str, Tensor]] | None:
        """Predictions beside what g makes of Ŷ and of Y (Fig. 4); the released code's stacks are in other units."""
        if not self.reconstruct or not self.switches.as_in_the_paper:
            return None
        guess, known = (self.by_task(self.g.decode(self.encode(x))) for x in stacks(step, self.stacked, self.scales))
        predictions = {task.name: step.predictions[task.name][0] for task in self.stacked}
        return {"predictions": predictions, "g of predictions": guess, "g of labels": known}

    def by_task(self, decoded: Tensor) -> dict[str, Tensor]:
        """g's output (B, O, H, W) as the tasks' heads would give it."""
        parts = torch.split(full(decoded), [task.label_channels for task in self.stacked], 1)
        return {task.name: part * self.scales[task.name] for task, part in zip(self.stacked, parts, strict=True)}

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


def make_network(name: str, options: Options, networks: Networks, channels: int) -> nn.Module:
    """g: an autoencoder, or its first half where nothing is reconstructed."""
    alone = switches(options).statistics == "sample"
    if options.network == "backbone":
        if alone:
            raise MtlError(f'{name}: network = "backbone" has norms of its own; set statistics = "batch"')
        made = networks.like_backbone(channels, channels, bottleneck=options.bottleneck)
        if not options.reconstruct:
            del made.decoder, made.head
        return made
    norm: Norm | None = "instance" if alone else None
    sizes: dict[str, Any] = {"width": options.width, "bottleneck": options.bottleneck, "norm": norm}
    if options.reconstruct:
        return networks.autoencoder(channels, channels, unpool=options.unpool, **sizes)
    return networks.encoder(channels, **sizes)


def chosen(name: str, tasks: Tasks, names: tuple[str, ...]) -> Tasks:
    """The tasks to stack, all dense."""
    selected = tasks.choose(names, f"{name}.tasks") if names else tasks
    flat = [task.name for task in selected if not task.dense]
    if flat:
        raise MtlError(
            f"{name}: task {flat[0]!r} has one value per image and cannot be stacked with maps;"
            f" leave it out: tasks = {[t.name for t in selected if t.dense]}"
        )
    return selected
