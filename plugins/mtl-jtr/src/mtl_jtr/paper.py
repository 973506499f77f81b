"""JTR's terms as the paper's equations have them."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from mtl_core import Step, at_least_float32
from mtl_jtr.distances import spread
from mtl_jtr.joint_space import JointSpace
from mtl_jtr.stacks import all_predicted, stacks


def paper_terms(space: JointSpace, step: Step) -> dict[str, Tensor]:
    """Eq. 5 with the coefficients of Eq. 6."""
    options = space.options
    entering = list(stacks(step, space.tasks, space.units))
    if options.views == 2:
        entering.append(all_predicted(step, space.tasks, 1, space.units))
    # Leaves: the reconstruction must not reach the predictions; the distance does, by `reattached`.
    attached = space.attached(step, entering)
    leaves = [stack.detach().requires_grad_() for stack in attached]
    compared, latents = space.encodings(leaves, attached)
    per_sample = space.distances(step, [at_least_float32(latent.features) for latent in compared])
    terms = {"distance": space.reattached(options.c_dist * per_sample.mean(), leaves, attached)}
    if options.reconstruct:
        losses = [partial(space.reconstructed, stack=leaf.detach()) for leaf in leaves[:2]]
        terms["reconstruction"] = options.c_recon * space.reconstruction(step, latents[:2], losses)
    step.log("latent_distance", per_sample.mean())
    step.log("latent_cosine", spread(at_least_float32(latents[1].features.detach())))
    return terms
