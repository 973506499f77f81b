"""m: one encoder for the joint spaces of all ordered pairs of tasks, conditioned by FiLM.

Shape letters: B samples, K tasks, R = K·(K − 1) ordered pairs, O_k channels of task k, w width, N maps, C channels of
the embeddings, H and W image size, h and w' theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from mtl_mtpsl.film import film
from mtl_nn import Modulate, Networks, Norm, initialise, level

Place = Literal["convolution", "norm"]


class PairSpaces(nn.Module):
    """A small input layer per task, an encoder for all, and a scale and a shift per pair and convolution.

    FiLM begins as the identity.

    :param channels: O_k of the K tasks
    :param networks: makes the encoder
    :param norm: of input layers and encoder
    :param place: of FiLM, behind each convolution, or behind the norm that follows it
    """

    def __init__(
        self,
        channels: Sequence[int],
        networks: Networks,
        norm: Norm,
        place: Place,
        width: int | None = None,
        bottleneck: int | None = None,
    ) -> None:
        super().__init__()
        width = width or networks.width
        self.inputs = nn.ModuleList(level(c, width, 0, norm) for c in channels)
        self.inputs.apply(initialise)
        self.encoder = networks.encoder(width, width=width, bottleneck=bottleneck, norm=norm)
        pairs = len(channels) * (len(channels) - 1)
        scales = sum(self.encoder.sizes)
        self.gamma = nn.Parameter(torch.ones(pairs, scales))
        self.beta = nn.Parameter(torch.zeros(pairs, scales))
        self.place = place

    def film_parameters(self) -> list[nn.Parameter]:
        return [self.gamma, self.beta]

    def forward(self, maps: Sequence[Tensor], chosen: Tensor, pair: Tensor) -> Tensor:
        """Embeddings (N, C, h, w') of some maps, each in the space of a pair.

        :param maps: (B, O_k, H, W) of the K tasks
        :param chosen: (N,) positions among the K·B maps, task by task
        :param pair: (N,) positions among the R pairs
        """
        entered = torch.cat([layer(x) for layer, x in zip(self.inputs, maps, strict=True)])
        modulate = self._modulation(pair)

        def after_conv(number: int, x: Tensor) -> Tensor:
            # the first convolution knows no pair: it sees every map once, the others see it in each of its places
            x = _gathered(x, chosen) if number == 0 else x
            return modulate(number, x) if self.place == "convolution" else x

        after_norm = modulate if self.place == "norm" else None
        embedded: Tensor = self.encoder(entered, after_conv=after_conv, after_norm=after_norm).features
        return embedded

    def _modulation(self, pair: Tensor) -> Modulate:
        """γ·x + β with the pairs' rows, for every convolution."""
        sizes = list(self.encoder.sizes)
        gammas, betas = (torch.split(p[pair, :, None, None], sizes, 1) for p in self.film_parameters())
        return lambda number, x: film(x, gammas[number], betas[number])


def _gathered(maps: Tensor, chosen: Tensor) -> Tensor:
    """``maps[chosen]`` in the memory format ``channels_last``, which indexing maps would lose; a fast backward pass."""
    rows = maps.permute(0, 2, 3, 1)
    return rows.flatten(1).index_select(0, chosen).view(-1, *rows.shape[1:]).permute(0, 3, 1, 2)
