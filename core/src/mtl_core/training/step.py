"""One training step, from a batch to the loss, in one ``nn.Module.forward``.

DDP, precision and ``torch.compile`` see one module; there is no host sync in it.
Shape letters: V views, B samples, K tasks, C channels, H and W image size.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mtl_core.data.sample import Batch
from mtl_core.hooks.relay import Hooks
from mtl_core.seeds import generator_for
from mtl_core.step.crops import image_views
from mtl_core.step.step import Features, Step
from mtl_core.tasks.precision import constant
from mtl_core.training import losses as loss
from mtl_core.training.branching import LossScale
from mtl_core.training.build_step import build_step
from mtl_core.training.encoder_gradient import Level, Seam
from mtl_core.training.head_gradients import HeadGradients
from mtl_core.training.network import Network, as_float, without_autocast


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

    ``planned`` is how many batches the run has in all its epochs, None outside a run; ``progress`` the share of them
    before the last batch.
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
        self.network = network
        self.level = level
        # registered here, so that DDP, the optimizer, devices and the checkpoint see the parameters of plugins
        self.plugins = nn.ModuleDict({n: p for n, p in hooks.plugins.items() if isinstance(p, nn.Module)})
        self.hooks = hooks
        self.tasks = network.tasks
        self.normalize = normalize
        self.views = views
        self.seed = seed
        self.rank = rank
        self.group = group
        self.has_seam = hooks.need_seam
        self.planned: int | None = None
        self.progress = 1.0
        self.seam = Seam(hooks, self.tasks, network.backbone, level, group)
        self.heads = HeadGradients()
        self.terms: set[str] = set()
        """Names of the regularizers' terms so far, as they are logged."""

    def forward(self, batch: Batch, number: int, expected: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """The total loss of one batch, and what is logged.

        :param batch: on the module's device
        :param number: of the step (of the micro-batch, where gradients accumulate)
        :param expected: where they accumulate, (K,): samples that carry each task, the mean over the micro-batches
        """
        # by the number and the rank: a resumed run draws the same, and ranks augment their images differently
        generator = generator_for(self.seed, "step", number, self.rank)
        self.progress = 1.0 if self.planned is None else min(number / self.planned, 1.0)
        images, windows = self.views_of(batch.images, generator)
        # all views in one pass, so that batch norm takes its statistics over V·B images
        z, deepest = self.network.encode(images.flatten(0, 1))
        # a new one for each step: a gradient of an older step is recognised by its scale
        scale = LossScale()
        predictions = self._in_views(self.network.decode(self.split(z, scale)))
        step = build_step(
            self.tasks,
            batch,
            images,
            self.heads.watched("labels", predictions),
            z,
            generator,
            self.normalize,
            self.group,
            expected,
        )
        step.deepest = deepest
        step.windows = windows
        step.progress = self.progress
        # without the rank: rules and shapers must draw the same on all of them
        step.shared = generator_for(self.seed, "shared", number)
        total = self.combine(step)
        # aliases of the same predictions, so that gradients of labels and of regularizers are counted apart
        step.predictions = self.heads.watched("regularizer", predictions)
        terms = self.hooks.compute_regularizer(step)
        values = {name: loss.global_term(term, self.group) for name, term in terms.items()}
        self.terms.update(values)
        # after the loss rule was asked: its weights are about the tasks, not about regularizers
        if values:
            total = torch.stack([total, *values.values()]).sum()
        logged = self.log(step, total, values)
        # emptied: what plugins log in the backward pass reaches the epoch through `seam.logged`
        step.logged = {}
        # last: whatever multiplies the loss from here on (the divisor of accumulation, fp16's scale) is recorded
        return scale.apply(total), logged

    def views_of(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """(B, 3, H, W) → (V, B, 3, H, W), float32, every view augmented for itself; and the windows that they show."""
        windows = self.hooks.choose_windows(self.views, len(images), generator)
        # brightness and blur in half precision would round the images twice: autocast casts what comes out
        with without_autocast(images.device):
            views = image_views(as_float(images), self.views, windows)
            changed = self.hooks.augment(views.flatten(0, 1), generator)
        return changed.view(self.views, *images.shape), windows

    def split(self, z: Features, scale: LossScale) -> list[Features]:
        """z once per head, through the seam if a plugin shapes or watches the gradient there."""
        if not self.has_seam:
            # without a seam autograd itself adds up the gradients of the heads
            return [z] * len(self.tasks)
        return self.seam.begin(z, scale)

    def _in_views(self, predictions: dict[str, Tensor]) -> dict[str, Tensor]:
        """(V·B, …) → (V, B, …); from here on their gradients are watched."""
        views = {name: p.view(self.views, -1, *p.shape[1:]) for name, p in predictions.items()}
        self.heads.start(views)
        return views

    def combine(self, step: Step) -> Tensor:
        total = self.hooks.combine_losses(step.task_losses, step.task_means, step.active, step)
        if self.has_seam:
            self.seam.expect(step, total)
        return total

    def log(self, step: Step, total: Tensor, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        # NaN for an absent task: an average leaves out what is not finite
        means = torch.where(step.active, step.task_means.detach(), constant(torch.nan, step.active.device))
        own = {f"train/loss/{t}": v for t, v in zip(self.tasks.names, means, strict=True)}
        seen = {f"train/active/{t}": a for t, a in zip(self.tasks.names, step.active.float(), strict=True)}
        shares = step.labelled.float().mean(0)
        seen |= {f"train/labels/{t}": share for t, share in zip(self.tasks.names, shares, strict=True)}
        return {"train/loss": total.detach(), **own, **seen, **{n: v.detach() for n, v in terms.items()}, **step.logged}
