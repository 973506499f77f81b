"""JTR's terms with any of the switches in which the authors' released code differs from the paper.

Source: what the code beside Nishi et al., CVPR 2024, computes, restated; docs/methods/jtr.md has each line. Random
draws are in the order in which stacks are made: Ŷ, Y, of view 1 before view 2, and last the target of g(Ŷ).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mtl_core import Step
from mtl_jtr.counts import counted_losses
from mtl_jtr.distances import spread
from mtl_jtr.entries import View
from mtl_jtr.known import gradients_now, with_gradients
from mtl_jtr.stacks import full
from mtl_nn import Latent

if TYPE_CHECKING:
    from mtl_jtr.plugin import JTR, Judge


def terms(jtr: JTR, step: Step) -> dict[str, Tensor]:
    """All terms of a step: of view 0, or of view 1 for the network and of view 2 for g."""
    return apart(jtr, step) if jtr.switches.separate else together(jtr, step)


def view_of(jtr: JTR, step: Step, view: int) -> View:
    return View.of(step, jtr.stacked, view, jtr.switches, jtr.depth_scale)


def together(jtr: JTR, step: Step) -> dict[str, Tensor]:
    """As in the paper, with other stacks or another reconstruction."""
    view = view_of(jtr, step, 0)
    entries = [view.guess(), view.known()]
    others = [view_of(jtr, step, 1).guess()] if jtr.views == 2 else []
    attached = jtr.attached(step, [torch.cat(parts, 1) for parts in [*entries, *others]])
    leaves = [stack.detach().requires_grad_() for stack in attached]
    latents = [jtr.encode(leaf) for leaf in leaves]
    distance = latent_distance(jtr, step, latents)
    found = {"distance": jtr.reattach(jtr.c_dist * distance, leaves, attached)}
    return found | reconstruction(jtr, step, view, entries, latents[:2])


def apart(jtr: JTR, step: Step) -> dict[str, Tensor]:
    """View 1's distance reaches the predictions and leaves g as it is; view 2's trains g and nothing else."""
    first, second = view_of(jtr, step, 1), view_of(jtr, step, 2)
    attached = jtr.attached(step, [torch.cat(parts, 1) for parts in (first.guess(), first.known())])
    leaves = [stack.detach().requires_grad_() for stack in attached]
    value = jtr.c_dist * latent_distance(jtr, step, [jtr.encode(leaf) for leaf in leaves])
    found = {"distance": with_gradients(value, attached, gradients_now(value, leaves))}
    entries = [second.guess(soft=True), second.known()]
    latents = [jtr.encode(torch.cat(parts, 1).detach()) for parts in entries]
    if jtr.train_encoder_on == "both":
        per_sample = jtr.distances(step, [full(latent.features) for latent in latents])
        found["distance_of_g"] = jtr.c_dist * jtr.c_recon * per_sample.mean()
    return found | reconstruction(jtr, step, second, entries, latents)


def latent_distance(jtr: JTR, step: Step, latents: list[Latent]) -> Tensor:
    """The mean distance of a batch, which is logged."""
    features = [full(latent.features) for latent in latents]
    distance = jtr.distances(step, features).mean()
    step.log("latent_distance", distance)
    step.log("latent_cosine", spread(features[1].detach()))
    return distance


def reconstruction(
    jtr: JTR, step: Step, view: View, entries: list[list[Tensor]], latents: list[Latent]
) -> dict[str, Tensor]:
    if not jtr.reconstruct:
        return {}
    judges = [paper(jtr, parts) for parts in entries]
    if jtr.switches.reconstruction_as == "counts":
        known, guess = view.known_targets(entries[1]), view.guess_targets(entries[0])
        judges = [counts(jtr, view, targets) for targets in (guess, known)]
    return {"reconstruction": jtr.c_recon * jtr.reconstruction(step, latents, judges)}


def paper(jtr: JTR, parts: list[Tensor]) -> Judge:
    return partial(jtr.reconstructed, stack=torch.cat(parts, 1).detach())


def counts(jtr: JTR, view: View, targets: list[Tensor]) -> Judge:
    return partial(counted_losses, tasks=jtr.stacked, targets=targets, counted=view.counted)
