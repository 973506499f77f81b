"""JTR's terms as the paper's equations have them, and the forms beside them that options switch on.

docs/methods/jtr.md, Forms that are not in the paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from torch import Tensor

from mtl_core import Step, at_least_float32
from mtl_jtr.distances import spread
from mtl_jtr.joint_space import JointSpace
from mtl_jtr.masks import only_shown, shown_maps
from mtl_jtr.pseudo import pseudo_loss
from mtl_jtr.ramp import growth
from mtl_jtr.stacks import all_predicted, stacks
from mtl_jtr.targets import compared, moved
from mtl_nn import Latent


def paper_terms(space: JointSpace, step: Step, substitutes: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Eq. 5 with the coefficients of Eq. 6.

    :param substitutes: task → (B, O_t, H, W) as its head gives it, without gradients: what replaces missing labels in
        Y; None: the predictions
    """
    options = space.options
    given = list(stacks(step, space.tasks, space.units, substitutes))
    if options.views == 2:
        given.append(all_predicted(step, space.tasks, 1, space.units))
    # g is given leaves: the reconstruction must not reach the predictions; the distance does, by `reattached`
    attached = space.attached(step, given)
    reached = moved(options, len(attached))
    attached = [stack if place in reached else stack.detach() for place, stack in enumerate(attached)]
    leaves = [stack.detach().requires_grad_(place in reached) for place, stack in enumerate(attached)]
    of_distance, latents = space.encodings(leaves, attached)
    features = compared(options, [at_least_float32(latent.features) for latent in of_distance])
    per_sample = space.distances(step, features)
    value = options.c_dist * growth(options, step) * per_sample.mean()
    terms = {"distance": space.reattached(value, [leaves[k] for k in reached], [attached[k] for k in reached])}
    if options.reconstruct:
        losses = [partial(space.reconstructed, stack=leaf.detach()) for leaf in leaves[:2]]
        shown = latents[:2] if not options.masked else _encoded_in_part(space, step, leaves[:2])
        terms["reconstruction"] = options.c_recon * space.reconstruction(step, shown, losses)
    if options.c_pseudo:
        terms["pseudo"] = options.c_pseudo * growth(options, step) * pseudo_loss(space, step, leaves[1])
    step.log("latent_distance", per_sample.mean())
    step.log("latent_cosine", spread(at_least_float32(latents[1].features.detach())))
    return terms


def _encoded_in_part(space: JointSpace, step: Step, leaves: Sequence[Tensor]) -> list[Latent]:
    """Latents of Ŷ and Y for the reconstruction, of which g sees some maps only; each with a draw of its own."""
    latents = []
    for leaf in leaves:
        shown = shown_maps(len(leaf), len(space.tasks), space.options.masked, step.generator)
        latents.append(space.encode(only_shown(leaf.detach(), shown, space.tasks)))
    return latents
