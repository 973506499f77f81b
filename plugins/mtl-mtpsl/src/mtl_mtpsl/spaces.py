"""m: one encoder for the joint spaces of all ordered pairs of tasks, conditioned by FiLM.

Shape letters: B samples, K tasks, R = K·(K − 1) ordered pairs, O_k channels of task k, w width, N maps, C channels of
the embeddings, H and W image size, h and w' theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from mtl_core.nn import Networks
from mtl_core.nn.segnet import Modulate, initialise, level

Film = Literal["convolution", "norm"]


class PairSpaces(nn.Module):
    """A small input layer per task, an encoder for all, and a scale and a shift per pair and convolution.

    FiLM: Perez et al., AAAI 2018. It begins as the identity.

    :param channels: O_k of the K tasks
    :param networks: makes the encoder
    :param film: behind each convolution, or behind the norm that follows it
    """

    def __init__(
        self, channels: Sequence[int], networks: Networks, film: Film, width: int | None, bottleneck: int | None
    ) -> None:
        super().__init__()
        width = width or networks.width
        self.inputs = nn.ModuleList(level(c, width, 0, networks.norm) for c in channels)
        self.inputs.apply(initialise)
        self.encoder = networks.encoder(width, width=width, bottleneck=bottleneck)
        pairs, places = len(channels) * (len(channels) - 1), sum(self.encoder.sizes)
        self.gamma = nn.Parameter(torch.ones(pairs, places))
        self.beta = nn.Parameter(torch.zeros(pairs, places))
        self.film = film

    def film_parameters(self) -> list[nn.Parameter]:
        return [self.gamma, self.beta]

    def forward(self, maps: Sequence[Tensor], chosen: Tensor, pair: Tensor) -> Tensor:
        """Embeddings (N, C, h, w') of some maps, each in the space of a pair.

        :param maps: (B, O_k, H, W) of the K tasks
        :param chosen: (N,) positions among the K·B maps, task by task
        :param pair: (N,) positions among the R pairs
        """
        entered = torch.cat([layer(x) for layer, x in zip(self.inputs, maps, strict=True)])
        film = self.modulation(pair)
        places = {"after_conv": film} if self.film == "convolution" else {"after_norm": film}
        embedded: Tensor = self.encoder(entered.index_select(0, chosen), **places).features
        return embedded

    def modulation(self, pair: Tensor) -> Modulate:
        """γ·x + β with the pairs' rows, for every convolution."""
        rows = (p.index_select(0, pair)[..., None, None].split(self.encoder.sizes, 1) for p in self.film_parameters())
        gammas, betas = rows

        def film(number: int, x: Tensor) -> Tensor:
            return torch.addcmul(betas[number].to(x.dtype), x, gammas[number].to(x.dtype))

        return film
