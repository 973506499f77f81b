"""Which of the stacks that are compared the distance may move. A fixed target is not in the paper.

The order is that of :func:`mtl_jtr.paper.paper_terms`: Ŷ, Y, and the second view's Ŷ where there is one.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mtl_jtr.options import Options

_Y = 1
"""The place of Y."""


def moved(options: Options, count: int) -> list[int]:
    """Places of the stacks whose predictions the distance reaches; Y's only if they are the network's own.

    :param count: of the stacks
    """
    fixed = options.target == "fixed" or options.substitutes == "ema"
    return [place for place in range(count) if not (fixed and place == _Y)]


def compared(options: Options, latents: Sequence[Tensor]) -> list[Tensor]:
    """The latents as the distance takes them: with a fixed target that of Y is detached."""
    if options.target == "trained":
        return list(latents)
    return [latent.detach() if place == _Y else latent for place, latent in enumerate(latents)]
