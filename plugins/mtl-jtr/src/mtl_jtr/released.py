"""JTR's terms with any of the switches in which the authors' released code differs from the paper.

Source: what the code beside Nishi et al., CVPR 2024, computes, restated; docs/methods/jtr.md has each line. Random
draws are in the order in which stacks are made: Ŷ, Y, of view 1 before view 2, and last the target of g(Ŷ).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from mtl_core import Step, at_least_float32
from mtl_jtr.counts import counted_losses
from mtl_jtr.distances import spread
from mtl_jtr.entries import View
from mtl_jtr.joint_space import Compare, JointSpace
from mtl_jtr.ramp import growth
from mtl_nn import Latent


def released_terms(space: JointSpace, step: Step) -> dict[str, Tensor]:
    """All terms of a step: of view 0, or of view 1 for the network and of view 2 for g."""
    return _apart(space, step) if space.options.switches.separate else _together(space, step)


def _view(space: JointSpace, step: Step, view: int) -> View:
    return View.of(step, space.tasks, view, space.options.switches, space.options.depth_scale)


def _together(space: JointSpace, step: Step) -> dict[str, Tensor]:
    """As in the paper, with other stacks or another reconstruction."""
    view = _view(space, step, 0)
    entries = [view.guess(), view.known()]
    others = [_view(space, step, 1).guess()] if space.options.views == 2 else []
    attached = space.attached(step, [torch.cat(parts, 1) for parts in [*entries, *others]])
    leaves = [stack.detach().requires_grad_() for stack in attached]
    compared, latents = space.encodings(leaves, attached)
    distance = space.options.c_dist * growth(space.options, step) * _logged_distance(space, step, compared)
    terms = {"distance": space.reattached(distance, leaves, attached)}
    return terms | _reconstruction(space, step, view, entries, latents[:2])


def _apart(space: JointSpace, step: Step) -> dict[str, Tensor]:
    """View 1's distance reaches the predictions and leaves g as it is; view 2's trains g and nothing else."""
    options = space.options
    first = _view(space, step, 1)
    second = _view(space, step, 2)
    attached = space.attached(step, [torch.cat(parts, 1) for parts in (first.guess(), first.known())])
    leaves = [stack.detach().requires_grad_() for stack in attached]
    c_dist = options.c_dist * growth(options, step)
    compared, _ = space.encodings(leaves, attached, reaches_g=False)
    distance = c_dist * _logged_distance(space, step, compared)
    terms = {"distance": space.alone(distance, leaves, attached)}
    entries = [second.guess(soft=True), second.known()]
    fixed = [torch.cat(parts, 1).detach() for parts in entries]
    compared, latents = space.encodings(fixed, fixed)
    if options.train_encoder_on == "both":
        per_sample = space.distances(step, [at_least_float32(latent.features) for latent in compared])
        terms["distance_of_g"] = c_dist * options.c_recon * per_sample.mean()
    return terms | _reconstruction(space, step, second, entries, latents)


def _logged_distance(space: JointSpace, step: Step, latents: Sequence[Latent]) -> Tensor:
    """The mean distance of a batch, which is logged."""
    features = [at_least_float32(latent.features) for latent in latents]
    distance = space.distances(step, features).mean()
    step.log("latent_distance", distance)
    step.log("latent_cosine", spread(features[1].detach()))
    return distance


def _reconstruction(
    space: JointSpace, step: Step, view: View, entries: Sequence[list[Tensor]], latents: Sequence[Latent]
) -> dict[str, Tensor]:
    if not space.options.reconstruct:
        return {}
    losses = _losses(space, view, entries)
    return {"reconstruction": space.options.c_recon * space.reconstruction(step, latents, losses)}


def _losses(space: JointSpace, view: View, entries: Sequence[list[Tensor]]) -> list[Compare]:
    """Losses of what g makes of Ŷ, and of Y."""
    if space.options.switches.reconstruction_as == "losses":
        return [partial(space.reconstructed, stack=torch.cat(parts, 1).detach()) for parts in entries]
    # in this order: the targets of g(Ŷ) are drawn last
    known = view.known_targets(entries[1])
    guess = view.guess_targets(entries[0])
    return [partial(counted_losses, tasks=space.tasks, targets=t, counted=view.counted) for t in (guess, known)]
