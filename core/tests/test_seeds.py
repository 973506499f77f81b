"""Seeds for torch's own generators: the same draws for the same moment."""

import torch

from mtl_core.seeds import seed_torch

CPU = torch.device("cpu")


def test_a_moment_has_its_own_draws() -> None:
    draws = []
    for moment in (3, 4, 3):
        seed_torch(CPU, 0, "step", moment)
        draws.append(torch.nn.functional.dropout(torch.ones(64)))
    assert draws[0].equal(draws[2])
    assert not draws[0].equal(draws[1])
