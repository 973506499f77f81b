"""RandAugment: each operation against torchvision's, and what the whole promises."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as V

from mtl_randaugment import RandAugment
from mtl_randaugment.operations import OPERATIONS


def images(n: int = 6) -> Tensor:
    """Values that 8 bits can hold, as in real images."""
    return torch.randint(256, (n, 3, 12, 16), generator=torch.Generator().manual_seed(0)) / 255


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


THEIRS = {
    "identity": lambda x, m, s: x,
    "brightness": lambda x, m, s: V.adjust_brightness(x, 1 + 0.9 * m * s),
    "color": lambda x, m, s: V.adjust_saturation(x, 1 + 0.9 * m * s),
    "contrast": lambda x, m, s: V.adjust_contrast(x, 1 + 0.9 * m * s),
    "sharpness": lambda x, m, s: V.adjust_sharpness(x, 1 + 0.9 * m * s),
    "posterize": lambda x, m, s: V.posterize((x * 255).round().byte(), int(8 - round(4 * m))).float() / 255,
    "solarize": lambda x, m, s: V.solarize(x, 1 - m),
    "autocontrast": lambda x, m, s: V.autocontrast(x),
    "equalize": lambda x, m, s: V.equalize((x * 255).round().byte()).float() / 255,
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("bin_", [0, 3, 5, 20])
@pytest.mark.parametrize("sign", [-1, 1])
def test_every_operation_equals_torchvisions(name: str, bin_: int, sign: int) -> None:
    x, m = images(), bin_ / 30
    ours = OPERATIONS[name](x, torch.full((6, 1, 1, 1), m), torch.full((6, 1, 1, 1), sign))
    expected = torch.stack([THEIRS[name](image, m, sign) for image in x])
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=2e-5)


def test_magnitude_one_and_pure_blends_change_nothing() -> None:
    """Magnitudes below 1 of 31 are 0: blends, posterize and solarize are the identity (but for pure white)."""
    x = images() * 0.99
    zero, sign = torch.zeros(6, 1, 1, 1), torch.ones(6, 1, 1, 1)
    for name in ("brightness", "color", "contrast", "sharpness"):
        torch.testing.assert_close(OPERATIONS[name](x, zero, sign), x)
    assert torch.equal(OPERATIONS["solarize"](x, zero, sign), x)


def test_images_draw_their_operations_for_themselves() -> None:
    same = images(1).expand(32, 3, 12, 16)
    found = RandAugment().augment(same, generator())
    assert len({tuple(row) for row in found.flatten(1).tolist()}) > 10


def test_every_operation_is_drawn() -> None:
    drawn = set()
    for name in OPERATIONS:
        if name != "identity":
            wrapped = OPERATIONS[name]

            def spy(x: Tensor, m: Tensor, s: Tensor, name: str = name, wrapped=wrapped) -> Tensor:  # noqa: ANN001
                drawn.add(name)
                return wrapped(x, m, s)

            OPERATIONS[name] = spy
    try:
        RandAugment().augment(images(1).expand(64, 3, 12, 16), generator())
    finally:
        for name in drawn:
            OPERATIONS[name] = OPERATIONS[name].__defaults__[1]
    assert drawn == set(OPERATIONS) - {"identity"}
