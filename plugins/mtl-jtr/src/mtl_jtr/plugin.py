"""Joint-Task Regularization as a plugin.

Shape letters: B samples, O channels of all tasks together, H and W image size.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mtl_core import About, LookAhead, Step, Tasks, draw_windows, hookimpl, plugin
from mtl_jtr.early_gradients import EarlyScale
from mtl_jtr.joint_space import JointSpace, make_g, recompute_in_decoder
from mtl_jtr.options import Options
from mtl_jtr.paper import paper_terms
from mtl_jtr.released import released_terms
from mtl_jtr.stacks import stacks
from mtl_nn import AveragedNetwork, Networks

_DEAD = 1e-3
"""Mean distance below which the term has almost no gradient: alive, a cosine distance is two orders larger."""

_HOOKS = ("setup", "count_views", "choose_windows", "compute_regularizer", "draw_pictures", "after_epoch")
"""The hooks that every instance answers."""

_log = logging.getLogger("mtl")


@plugin
class JTR(Options, nn.Module):
    """Joint-Task Regularization: all predictions are regularized together in one learned joint-task space.

    Nishi et al., "Joint-Task Regularization for Partially Labeled Multi-Task Learning", CVPR 2024, Eq. 4 to 6. Beyond
    the paper: the options against a collapsed latent space (``train_encoder_on``, ``unpool``, ``centred``), forms to
    study (``target``, ``ramp``, ``masked``, ``substitutes``, ``c_pseudo``, a smooth ``network``), and
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
    def fills(self) -> tuple[str, ...]:
        """The hooks that this instance answers."""
        return (*_HOOKS, "before_step") if self.substitutes == "ema" else _HOOKS

    @hookimpl
    def setup(self, name: str, tasks: Tasks, backbone: nn.Module, heads: nn.ModuleDict) -> None:
        self.name = name
        stacked = tasks.choose_dense(self.tasks, name, "a joint space needs")
        channels = sum(task.label_channels for task in stacked)
        self.g = make_g(name, self, Networks.of(backbone), channels)
        if self.channels_last:
            self.g.to(memory_format=torch.channels_last)
        if self.checkpoint:
            recompute_in_decoder(self.g)
        self.scale = EarlyScale()
        self.space = JointSpace(self.g, stacked, self, self.scale)
        self.warned = False
        if self.substitutes == "ema":
            self.average = AveragedNetwork(backbone, heads, self.ema_decay)

    @hookimpl
    def count_views(self) -> int:
        return self.views

    @hookimpl
    def choose_windows(self, views: int, samples: int, generator: torch.Generator) -> Tensor | None:
        scales = self.switches.crops if self.switches.separate else ()
        return draw_windows(views, samples, scales, generator) if scales else None

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor]:
        if not self.switches.as_in_the_paper:
            return released_terms(self.space, step)
        return paper_terms(self.space, step, self._substitutes(step))

    def _substitutes(self, step: Step) -> dict[str, Tensor] | None:
        """What the average predicts for the first view, if it stands in Y."""
        predicted: dict[str, Tensor] | None = self.average(step.images[0]) if self.substitutes == "ema" else None
        return predicted

    @hookimpl
    def before_step(self, look_ahead: LookAhead) -> None:
        """Take the weights that the last step made into the average."""
        self.average.update()

    @hookimpl
    def draw_pictures(self, step: Step) -> dict[str, dict[str, Tensor]] | None:
        """Predictions beside what g makes of Ŷ and of Y (Fig. 4); the released code's stacks are in other units."""
        if not self.reconstruct or not self.switches.as_in_the_paper:
            return None
        space = self.space
        drawn = {"predictions": {task.name: step.predictions[task.name][0] for task in space.tasks}}
        entering = stacks(step, space.tasks, space.units, self._substitutes(step))
        for title, stack in zip(("g of predictions", "g of labels"), entering, strict=True):
            drawn[title] = space.by_task(space.g.decode(space.encode(stack)))
        return drawn

    @hookimpl
    def after_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        found = metrics.get(f"{self.name}/latent_distance", 1.0)
        if self.distance == "cosine" and found < _DEAD and not self.warned:
            self.warned = True
            _log.warning(
                "%s: the latent distance is %.1e in epoch %d: the latent space has collapsed, and the term trains next"
                " to nothing from here on. No option is known that turns this into a gain"
                " (docs/methods/jtr.md, Watch for collapse)",
                self.name, found, epoch,
            )  # fmt: skip
