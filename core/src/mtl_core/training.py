"""One training step, from a batch to the loss, in one ``nn.Module.forward``.

DDP, precision and ``torch.compile`` see one module; there is no host sync in it.
Shape letters: V views, B samples, K tasks, C channels, H and W image size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs
import torch
import torch.distributed as dist
from torch import Tensor, nn

from mtl_core import losses as loss
from mtl_core import seam
from mtl_core.data import Batch
from mtl_core.diagnostics import HeadGradients
from mtl_core.errors import ContractError, MtlError
from mtl_core.hooks import Hooks
from mtl_core.seeds import generator_for
from mtl_core.step import Features, Step
from mtl_core.tasks import Tasks
from mtl_core.views import image_views

Level = Literal["features", "parameters"]


class Network(nn.Module):
    """The shared encoder and one head per task."""

    def __init__(self, backbone: nn.Module, heads: nn.ModuleDict, tasks: Tasks) -> None:
        super().__init__()
        self.backbone, self.heads, self.tasks = backbone, heads, tasks

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images (N, 3, H, W), float in 0..1 or uint8 → task name → what its head gives."""
        z = self.backbone(as_float(images))
        return self.decode([z] * len(self.tasks))

    def decode(self, branches: list[Features]) -> dict[str, Tensor]:
        """z, once per head → predictions."""
        return {name: decode(name, self.heads[name], z) for name, z in zip(self.tasks.names, branches, strict=True)}


def decode(name: str, head: nn.Module, z: Features) -> Tensor:
    try:
        prediction: Tensor = head(z)
    except RuntimeError as error:
        if "inplace" in str(error):
            error.add_note(f'the head of task "{name}" begins with an in-place operation; its input is a view of z')
        raise
    return prediction


def encoded(backbone: Any, images: Tensor) -> tuple[Features, Tensor]:
    """z and the deepest features: those that the backbone names, or the last level of z."""
    if hasattr(backbone, "with_deepest"):
        answer: tuple[Features, Tensor] = backbone.with_deepest(images)
        return answer
    z: Features = backbone(images)
    return z, z if isinstance(z, Tensor) else z[-1]


def as_float(images: Tensor) -> Tensor:
    return images if images.is_floating_point() else images.float() / 255


class TrainingStep(nn.Module):
    """One step: augment → backbone → seam → heads → losses → combine → regularize.

    :param network: backbone and heads
    :param hooks: the run's plugins, already set up
    :param normalize: how L_t is made of the losses (B, K)
    :param views: how many augmented views of a batch go through the network
    :param seed: the experiment's
    :param rank: of this process
    :param group: a process group of the seam's and the losses' own; None for one process
    :param level: whether a gradient shaper sees products of the gradients at z, or of the encoder's parameters
    """

    def __init__(
        self,
        network: Network,
        hooks: Hooks,
        *,
        normalize: loss.Normalize = "sample",
        views: int = 1,
        seed: int = 0,
        rank: int = 0,
        group: dist.ProcessGroup | None = None,
        level: Level = "features",
    ) -> None:
        super().__init__()
        self.network, self.level = network, level
        self.plugins = nn.ModuleDict({n: p for n, p in hooks.plugins.items() if isinstance(p, nn.Module)})
        self.hooks, self.tasks = hooks, network.tasks
        self.normalize, self.views, self.seed, self.rank, self.group = normalize, views, seed, rank, group
        self.has_seam = hooks.meet_at_the_seam
        self.arrival, self.heads = Arrival(self), HeadGradients()

    def forward(self, batch: Batch, number: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The total loss of one batch, and what is logged.

        :param batch: on the module's device
        :param number: of the step (of the micro-batch, where gradients accumulate)
        """
        generator = generator_for(self.seed, "step", number, self.rank)
        windows = self.hooks.choose_windows(self.views, len(batch.images), generator)
        images = self.augmented(batch.images, windows, generator)
        z, deepest = encoded(self.network.backbone, images.flatten(0, 1))
        scale = seam.LossScale()
        predictions = self.in_views(self.network.decode(self.split(z, scale)))
        step = self.judge(batch, images, self.heads.watched("labels", predictions), z, generator)
        step.deepest, step.windows = deepest, windows
        step.shared = generator_for(self.seed, "shared", number)
        total = self.combine(step)
        step.predictions = self.heads.watched("regularizer", predictions)
        terms = self.hooks.compute_regularizer(step)
        values = {name: loss.global_term(term, self.group) for name, term in terms.items()}
        total = torch.stack([total, *values.values()]).sum()
        logged, step.logged = self.log(step, total, values), {}
        return scale.apply(total), logged

    def augmented(self, images: Tensor, windows: Tensor | None, generator: torch.Generator) -> Tensor:
        """(B, 3, H, W) → (V, B, 3, H, W): every view drawn for itself."""
        views = image_views(as_float(images), self.views, windows)
        changed = self.hooks.augment(views.flatten(0, 1), generator)
        return changed.view(self.views, *images.shape)

    def split(self, z: Features, scale: seam.LossScale) -> list[Features]:
        """z once per head, through the seam if a plugin shapes or watches the gradient there."""
        if not self.has_seam:
            return [z] * len(self.tasks)
        self.arrival.z = z
        return seam.branch(z, len(self.tasks), self.arrival.shape, scale)

    def in_views(self, predictions: dict[str, Tensor]) -> dict[str, Tensor]:
        """(V·B, …) → (V, B, …); from here on their gradients are watched."""
        views = {name: p.view(self.views, -1, *p.shape[1:]) for name, p in predictions.items()}
        self.heads.start(views)
        return views

    def judge(
        self, batch: Batch, images: Tensor, predictions: dict[str, Tensor], z: Features, generator: torch.Generator
    ) -> Step:
        """Supervised losses of view 0, and the step that rules and regularizers see."""
        first = {name: p[0] for name, p in predictions.items()}
        losses = loss.sample_losses(self.tasks, first, batch.targets, batch.labelled)
        per_task, means, active = loss.task_losses(losses, batch.labelled, self.normalize, self.group)
        return Step(
            tasks=self.tasks,
            images=images,
            predictions=predictions,
            targets=batch.targets,
            labelled=batch.labelled,
            features=z,
            index=batch.index,
            losses=losses,
            task_losses=per_task,
            task_means=means,
            active=active,
            generator=generator,
        )

    def combine(self, step: Step) -> Tensor:
        total = self.hooks.combine_losses(step.task_losses, step.task_means, step.active, step)
        if self.has_seam:
            self.arrival.expect(step, total)
        return total

    def log(self, step: Step, total: Tensor, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        # NaN for an absent task: an average leaves out what is not finite
        means = step.task_means.detach().masked_fill(~step.active, torch.nan)
        own = {f"train/loss/{t}": v for t, v in zip(self.tasks.names, means, strict=True)}
        seen = {f"train/active/{t}": a.float() for t, a in zip(self.tasks.names, step.active, strict=True)}
        shares = step.labelled.float().mean(0)
        seen |= {f"train/labels/{t}": share for t, share in zip(self.tasks.names, shares, strict=True)}
        return {"train/loss": total.detach(), **own, **seen, **{n: v.detach() for n, v in terms.items()}, **step.logged}


class Arrival:
    """What happens at the seam: hooks are asked, their state waits until the optimizer step is known to be taken."""

    def __init__(self, training: TrainingStep) -> None:
        self.hooks, self.tasks, self.group, self.level = training.hooks, training.tasks, training.group, training.level
        self.encoder = [p for p in training.network.backbone.parameters() if p.requires_grad]
        self.z: Features | None = None
        self.step: Step | None = None
        self.logged: dict[str, Tensor] = {}
        self.proposed: dict[str, Mapping[str, Tensor]] = {}
        self.finite: Tensor = torch.ones((), dtype=torch.bool)

    def expect(self, step: Step, total: Tensor) -> None:
        """Note the step whose gradients will arrive, and ∂total/∂L_t."""
        weights = torch.autograd.grad(total, step.task_losses, retain_graph=True, allow_unused=True)[0]
        self.step = step
        self.weights = torch.zeros_like(step.task_losses) if weights is None else weights

    def shape(self, branches: tuple[seam.Branch, ...], scale: Tensor) -> Features:
        assert self.step is not None
        step = self.step
        gradients = seam.EncoderGradients(
            tasks=self.tasks,
            gramian=self.gramian(branches, scale),
            active=step.active,
            losses=step.task_losses.detach(),
            means=step.task_means.detach(),
            decoder_weights=self.weights,
            branches=branches,
            step=step,
        )
        shaped = self.ask(gradients)
        self.finite = gradients.gramian.isfinite().all()
        self.logged = self.describe(gradients, shaped) | step.logged
        self.step = self.z = None
        if self.level == "parameters" and not has_shape(shaped.weights, gradients.losses):
            raise MtlError(
                f'plugin "{self.hooks.places["shape_encoder_gradient"]}" works on the gradients at the features,'
                ' element by element; use level = "features"'
            )
        return shaped.weights

    @torch.no_grad()
    def ask(self, gradients: seam.EncoderGradients) -> seam.Shaped:
        """What the shaper answers (without one: weights of 1), and what each plugin wants to remember."""
        self.proposed = self.hooks.watch_encoder_gradient(gradients)
        place = self.hooks.places.get("shape_encoder_gradient")
        if place is None:
            return seam.Shaped(torch.ones_like(gradients.norms))
        answer = self.hooks.shape_encoder_gradient(gradients)
        if answer is None:
            raise ContractError(f'plugin "{place}": shape_encoder_gradient returned None; it must return weights')
        shaped = answer if isinstance(answer, seam.Shaped) else seam.Shaped(answer)
        self.proposed[place] = {**self.proposed.get(place, {}), **shaped.state}
        return shaped

    def gramian(self, branches: tuple[seam.Branch, ...], scale: Tensor) -> Tensor:
        if self.level == "features":
            return seam.gramian(branches, scale, self.group)
        assert self.z is not None
        return seam.parameter_gramian(branches, self.z, self.encoder, scale, self.group)

    def describe(self, gradients: seam.EncoderGradients, shaped: seam.Shaped) -> dict[str, Tensor]:
        """Norms, cosines and weights, for the epoch's log; NaN, which it leaves out, where nothing reached a branch."""
        absent = ~gradients.reached
        names, norms = self.tasks.names, gradients.norms.masked_fill(absent, torch.nan)
        cosines = gradients.gramian / (norms[:, None] * norms)
        found = {f"encoder/norm/{t}": n for t, n in zip(names, norms, strict=True)}
        for i, (a, row) in enumerate(zip(names, cosines.unbind(), strict=True)):
            found |= {f"encoder/cosine/{a}|{b}": cosine for b, cosine in zip(names[:i], row.unbind(), strict=False)}
        if isinstance(shaped.weights, Tensor) and has_shape(shaped.weights, norms):
            weights = shaped.weights.masked_fill(absent, torch.nan)
            found |= {f"encoder/weight/{t}": w for t, w in zip(names, weights, strict=True)}
        return found

    def keep(self) -> None:
        """Keep the proposed state if the Gramian was finite (the guard takes it back if the step is skipped)."""
        for name, state in self.proposed.items():
            buffers = dict(self.hooks.plugins[name].named_buffers()) if state else {}
            for buffer, value in state.items():
                buffers[buffer].copy_(torch.where(self.finite, value, buffers[buffer]))
        self.proposed = {}


def has_shape(answer: Features, like: Tensor) -> bool:
    return isinstance(answer, Tensor) and answer.shape == like.shape


@attrs.define(eq=False)
class BufferGuard:
    """Buffers (batch-norm statistics, shapers' state) as they were before a step, put back if the step is skipped."""

    buffers: list[Tensor]
    saved: list[Tensor] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.saved = [torch.empty_like(b) for b in self.buffers]

    def save(self) -> None:
        for saved, buffer in zip(self.saved, self.buffers, strict=True):
            saved.copy_(buffer)

    def restore(self, skipped: Tensor) -> None:
        """Put the saved values back where ``skipped``, a scalar tensor, is true; no host sync."""
        for saved, buffer in zip(self.saved, self.buffers, strict=True):
            buffer.copy_(torch.where(skipped, saved, buffer))
