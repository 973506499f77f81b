"""The joint-task space: the network g, and what both forms of JTR do with it.

Shape letters: B samples, O channels of all tasks together, H and W image size, C, h and w those of a latent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from mtl_core import Depth, MtlError, Step, Tasks, at_least_float32
from mtl_jtr.averages import Averages
from mtl_jtr.distances import distance
from mtl_jtr.early_gradients import EarlyScale, gradients_now, with_gradients
from mtl_jtr.options import Options
from mtl_jtr.recompute import Stage, encode_without_storing
from mtl_jtr.smooth import Smooth
from mtl_nn import Decoder, Encoder, Latent, Networks, Norm, Pooled

Compare = Callable[[Tensor], dict[str, Tensor]]
"""g's output (B, O, H, W) → each task's loss, scalars."""


@attrs.frozen(eq=False)
class JointSpace:
    """g and the tasks whose maps it is given.

    :param g: an autoencoder, or its first half where nothing is reconstructed
    :param tasks: in the order of the stacks' channels
    :param options: of the plugin
    :param scale: of gradients that are taken in the forward pass
    """

    g: Any
    tasks: Tasks
    options: Options
    scale: EarlyScale

    @property
    def units(self) -> dict[str, float]:
        """Task → what its values are divided by in the paper's stacks."""
        return {task.name: self.options.depth_scale if isinstance(task, Depth) else 1.0 for task in self.tasks}

    def encode(self, stack: Tensor) -> Latent:
        """g_θ1: the joint-task latent of a stack, and what the decoder needs."""
        whole = self.options.reconstruct or self.options.network != "segnet"
        latent: Latent = (self.g.encode if whole else self.g)(self._formatted(stack))
        return latent

    def encodings(
        self, leaves: Sequence[Tensor], attached: Sequence[Tensor], reaches_g: bool = True
    ) -> tuple[list[Latent], list[Latent]]:
        """Each stack's latent: for the distance, and for the reconstruction.

        :param leaves: the stacks, without a way back to the predictions
        :param attached: the same values, with it
        :param reaches_g: whether the distance may train g
        """
        if not self.options.checkpoint:
            latents = [self.encode(leaf) for leaf in leaves]
            return latents, latents
        trains = reaches_g and self.options.train_encoder_on == "both"
        pairs = [self._encoded_without_storing(stack, trains) for stack in attached]
        return [a for a, _ in pairs], [b for _, b in pairs]

    def _encoded_without_storing(self, stack: Tensor, distance_trains_g: bool) -> tuple[Latent, Latent]:
        of_distance, of_reconstruction, pooled = encode_without_storing(self._stages(), stack, distance_trains_g)
        return Latent(of_distance, tuple(pooled)), Latent(of_reconstruction, tuple(pooled))

    def _stages(self) -> list[Stage]:
        """Parts of the encoder, of which one at a time keeps activations: the levels of a SegNet, else the whole."""
        encoder = getattr(self.g, "encoder", self.g)
        if isinstance(encoder, Encoder):
            return [
                Stage(partial(self._level, encoder, number), block, list(block.parameters()), random=False)
                for number, block in enumerate(encoder.levels)
            ]
        decoder = {id(p) for p in self._decoder_parameters()}
        return [Stage(self._whole, self.g, [p for p in self.g.parameters() if id(p) not in decoder], random=True)]

    def _level(self, encoder: Encoder, number: int, x: Tensor) -> tuple[Tensor, tuple[Pooled, ...]]:
        after, pooled = encoder.run_level(number, self._formatted(x) if number == 0 else x)
        return after, (pooled,)

    def _whole(self, stack: Tensor) -> tuple[Tensor, tuple[Pooled, ...]]:
        latent = self.encode(stack)
        return latent.features, latent.pooled

    def _formatted(self, stack: Tensor) -> Tensor:
        return stack.contiguous(memory_format=torch.channels_last) if self.options.channels_last else stack

    def attached(self, step: Step, stacks: Sequence[Tensor]) -> list[Tensor]:
        """Ŷ, Y and the second view's Ŷ, detached where a sample's distance does not use them: batch norm sees them."""
        labelled = self._has_label(step)[:, None, None, None]
        first = torch.ones_like(labelled) if self.options.views == 2 else labelled
        masks = (first, labelled, ~labelled)[: len(stacks)]
        return [torch.where(used, x, x.detach()) for used, x in zip(masks, stacks, strict=True)]

    def _has_label(self, step: Step) -> Tensor:
        """Whether a sample carries any label of the stacked tasks, bool (B,)."""
        return torch.stack([step.labelled[:, step.tasks.position(t)] for t in self.tasks.names]).any(0)

    def distances(self, step: Step, latents: Sequence[Tensor]) -> Tensor:
        """L_Dist per sample, (B,): of Ŷ and Y; of the two views' Ŷ (Sec. 4.4), or 0, where a sample has no label."""
        o = self.options
        labelled = distance(latents[0], latents[1], o.distance, o.switches.per_location, o.centred)
        if o.views == 2:
            other = distance(latents[0], latents[2], o.distance, o.switches.per_location, o.centred)
        else:
            other = torch.zeros_like(labelled)
        return torch.where(self._has_label(step), labelled, other)

    def reattached(self, value: Tensor, leaves: Sequence[Tensor], attached: Sequence[Tensor]) -> Tensor:
        """The distance, with its gradient at the stacks put back into the graph; g's own flow through ``value``.

        ∂D/∂stack comes from a product with g's encoder that computes no weight gradients.

        :param leaves: what g was given, without a way back to the predictions
        :param attached: the same values, with it
        """
        if self.options.checkpoint:
            return value
        own = value if self.options.train_encoder_on == "both" else value.detach()
        gradients = gradients_now(value, leaves, self.scale, retain_graph=True)
        return own + with_gradients(torch.zeros_like(value), attached, gradients, self.scale, is_term=True)

    def alone(self, value: Tensor, leaves: Sequence[Tensor], attached: Sequence[Tensor]) -> Tensor:
        """The distance, whose gradient reaches the stacks and not g."""
        if self.options.checkpoint:
            return value
        return with_gradients(value, attached, gradients_now(value, leaves, self.scale), self.scale, is_term=True)

    def reconstruction(self, step: Step, latents: Sequence[Latent], losses: Sequence[Compare]) -> Tensor:
        """L_Recon of both detached stacks, added over tasks and stacks.

        :param latents: of Ŷ and of Y
        :param losses: of what g makes of Ŷ, and of Y
        """
        guess, known = (self._decode(latent, compare) for latent, compare in zip(latents, losses, strict=True))
        per_task = {task: guess.losses[task] + known.losses[task] for task in self.tasks.names}
        for task, value in per_task.items():
            step.log(f"reconstruction/{task}", value)
        # the second decoding's gradients are added to the first's, so that θ2's wait in one copy
        at_decoder = [a.add_(b) for a, b in zip(guess.at_decoder, known.at_decoder, strict=True)]
        reached = [latent.features for latent in latents] + self._decoder_parameters()
        gradients = [guess.at_latent, known.at_latent, *at_decoder]
        return with_gradients(torch.stack(list(per_task.values())).sum(), reached, gradients, self.scale)

    def _decode(self, latent: Latent, compare: Compare) -> _Decoded:
        """Each task's loss of g_θ2's output, and the sum's gradients at the latent and at θ2.

        Taken at once, so that the activations of one decoding are gone before the next begins.
        """
        features = latent.features.detach().requires_grad_()
        losses = compare(self.g.decode(latent._replace(features=features)))
        total = torch.stack(list(losses.values())).sum()
        at_latent, *at_decoder = gradients_now(total, [features, *self._decoder_parameters()], self.scale)
        return _Decoded({task: loss.detach() for task, loss in losses.items()}, at_latent, at_decoder)

    def _decoder_parameters(self) -> list[nn.Parameter]:
        """θ2."""
        if not self.options.reconstruct:
            return []
        return [*self.g.decoder.parameters(), *self.g.head.parameters()]

    def reconstructed(self, decoded: Tensor, stack: Tensor) -> dict[str, Tensor]:
        """Each task's loss of g's output against a stack, both (B, O, H, W)."""
        losses = {}
        for task, output, target in zip(
            self.tasks, self._parts(at_least_float32(decoded)), self._parts(stack), strict=True
        ):
            losses[task.name] = task.label_loss(output, target).mean()
        return losses

    def by_task(self, decoded: Tensor) -> dict[str, Tensor]:
        """g's output (B, O, H, W) as the tasks' heads would give it."""
        parts = zip(self.tasks, self._parts(at_least_float32(decoded)), strict=True)
        return {task.name: part * self.units[task.name] for task, part in parts}

    def _parts(self, stack: Tensor) -> tuple[Tensor, ...]:
        """(B, O, H, W) → each task's channels."""
        return torch.split(stack, [task.label_channels for task in self.tasks], 1)


@attrs.frozen(eq=False)
class _Decoded:
    """Losses of one decoding, and their sum's gradients."""

    losses: dict[str, Tensor]
    at_latent: Tensor
    at_decoder: list[Tensor]


def recompute_in_decoder(g: nn.Module) -> None:
    """Let the decoder of a SegNet keep fewer activations, and compute them again in the backward pass."""
    decoder = getattr(g, "decoder", None)
    if isinstance(decoder, Decoder):
        decoder.checkpoint = True


def make_g(name: str, options: Options, networks: Networks, channels: int) -> nn.Module:
    """g: an autoencoder, or its first half where nothing is reconstructed.

    :param name: of the plugin, for messages
    :param channels: O
    :raises MtlError: the backbone has no autoencoder, or not with these options
    """
    per_sample = options.switches.statistics == "sample"
    if options.network == "backbone":
        if per_sample:
            raise MtlError(f'{name}: network = "backbone" has norms of its own; set statistics = "batch"')
        made = networks.like_backbone(channels, channels, bottleneck=options.bottleneck)
        if not options.reconstruct:
            del made.decoder, made.head
        return made
    if options.network == "averages":
        return _encoder_only_if(options, Averages(channels, options.bottleneck))
    if options.network == "smooth":
        return _encoder_only_if(options, Smooth(channels, options.width or networks.width, options.bottleneck))
    norm: Norm | None = "instance" if per_sample else None
    sizes: dict[str, Any] = {"width": options.width, "bottleneck": options.bottleneck, "norm": norm}
    if options.reconstruct:
        return networks.autoencoder(channels, channels, unpool=options.unpool, **sizes)
    return networks.encoder(channels, **sizes)


def _encoder_only_if(options: Options, made: Averages | Smooth) -> nn.Module:
    """A g without norms, so that ``statistics`` has nothing to do; its first half where nothing is reconstructed."""
    if not options.reconstruct:
        del made.decoder, made.head
    return made
