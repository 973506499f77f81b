"""RandAugment: each operation against torchvision's, and what the whole promises."""

import attrs
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as V

from mtl_randaugment import RandAugment
from mtl_randaugment.operations import OPERATIONS
from mtl_randaugment.randaugment import _changed

NAMES = list(OPERATIONS)


def images(n: int = 6) -> Tensor:
    """Values that 8 bits can hold, as in real images."""
    return torch.randint(256, (n, 3, 12, 16), generator=generator()) / 255


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def in_bytes(x: Tensor) -> Tensor:
    return (x * 255).round().byte()


THEIRS = {
    "identity": lambda x, value: x,
    "brightness": lambda x, value: V.adjust_brightness(x, 1 + value),
    "color": lambda x, value: V.adjust_saturation(x, 1 + value),
    "contrast": lambda x, value: V.adjust_contrast(x, 1 + value),
    "sharpness": lambda x, value: V.adjust_sharpness(x, 1 + value),
    "posterize": lambda x, value: V.posterize(in_bytes(x), int(value)) / 255,
    "solarize": lambda x, value: V.solarize(x, value),
    "autocontrast": lambda x, value: V.autocontrast(x),
    "equalize": lambda x, value: V.equalize(in_bytes(x)) / 255,
}
SPACE = {name.lower(): entry for name, entry in v2.RandAugment._AUGMENTATION_SPACE.items()}
"""torchvision's own table; it has no public name."""


def their_value(name: str, magnitude: int, bins: int = 31) -> float:
    values = SPACE[name][0](bins, 12, 16)
    return 0.0 if values is None else float(values[magnitude])


def ours(name: str, x: Tensor, magnitude: int, sign: int = 1, bins: int = 31) -> Tensor:
    strength = OPERATIONS[name].table(bins)[magnitude].float() * sign
    return OPERATIONS[name].apply(x, strength.expand(len(x), 1, 1, 1))


@pytest.mark.parametrize("bins", [10, 31])
@pytest.mark.parametrize("name", NAMES)
def test_every_operation_equals_torchvisions_at_every_magnitude(name: str, bins: int) -> None:
    x = images()
    for magnitude in range(bins):
        for sign in (1, -1) if OPERATIONS[name].signed else (1,):
            expected = torch.stack([THEIRS[name](image, sign * their_value(name, magnitude, bins)) for image in x])
            found = ours(name, x, magnitude, sign, bins)
            torch.testing.assert_close(found, expected, rtol=0, atol=2e-6, msg=f"{name}, magnitude {magnitude}")


def test_the_same_operations_take_a_sign_as_in_torchvision() -> None:
    assert {name: o.signed for name, o in OPERATIONS.items()} == {name: SPACE[name][1] for name in NAMES}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("autocontrast", "equalize")])
def test_the_weakest_magnitude_changes_nothing(name: str) -> None:
    x = images().clamp(max=254 / 255)
    torch.testing.assert_close(ours(name, x, 0), x, rtol=0, atol=1e-6)


def test_the_weakest_solarize_inverts_pure_white_as_torchvisions_does() -> None:
    assert ours("solarize", torch.ones(1, 3, 4, 4), 0).eq(0).all()


def test_each_image_gets_what_it_drew() -> None:
    """One image after the other, through torchvision's functions: sorting by operation must not mix images up."""
    plugin = RandAugment(operations=3, magnitude=31)
    x = images(40)
    expected = list(x)
    for one in plugin.draw(40, generator(5)):
        drawn = [name for name, count in zip(NAMES, one.counts, strict=True) for _ in range(count)]
        for place, name, strength in zip(one.places[0].tolist(), drawn, one.strengths.flatten().tolist(), strict=True):
            value = 8 - torch.tensor(strength).log2().item() if name == "posterize" else strength
            expected[place] = THEIRS[name](expected[place], value)
    torch.testing.assert_close(plugin.augment(x, generator(5)), torch.stack(expected), rtol=0, atol=1 / 255)


def test_operations_magnitudes_and_signs_are_drawn_evenly() -> None:
    [one] = RandAugment(operations=1).draw(9000, generator())
    assert all(850 < count < 1150 for count in one.counts), one.counts
    drawn = dict(zip(NAMES, one.strengths.flatten().split(one.counts), strict=True))
    for name in ("brightness", "color", "contrast", "sharpness"):
        steps = (drawn[name] / 0.03).round().int()
        assert set(steps.tolist()) == set(range(-5, 6)), name
        assert 0.35 < (steps > 0).float().mean() < 0.48, name
    assert set(drawn["posterize"].tolist()) == {1, 2}
    assert drawn["solarize"].min() == pytest.approx(1 - 5 / 30)


def test_images_and_views_draw_for_themselves() -> None:
    """A batch of one image sixteen times, in two views."""
    first, second = RandAugment().augment(images(1).expand(32, 3, 12, 16), generator()).chunk(2)
    assert len({tuple(image.flatten().tolist()) for image in first}) > 8
    assert (first != second).flatten(1).any(1).sum() > 8


def test_more_operations_do_not_replace_the_first_ones() -> None:
    """A longer chain starts with the same draws."""
    one, two = (RandAugment(operations=n).draw(8, generator())[0] for n in (1, 2))
    assert torch.equal(one.places, two.places)
    assert torch.equal(one.strengths, two.strengths)


def test_runs_on_a_cuda_device() -> None:
    """Tensors of FakeTensorMode know their device, and mixing two of them raises; no GPU is needed.

    The host's draws are real ones: the mode has no values to give.
    """
    drawn = RandAugment().draw(99, generator())
    assert all(all(one.counts) for one in drawn), "an operation is not tried"
    with FakeTensorMode(allow_non_fake_inputs=False) as mode:
        x = torch.empty(99, 3, 12, 16, device="cuda")
        for one in drawn:
            places = mode.from_tensor(one.places)
            strengths = mode.from_tensor(one.strengths)
            x = _changed(x, attrs.evolve(one, places=places, strengths=strengths))
    assert (x.device.type, x.shape) == ("cuda", (99, 3, 12, 16))


def test_a_magnitude_beyond_the_bins_is_refused() -> None:
    assert RandAugment(magnitude=10, bins=10).magnitude == 10
    with pytest.raises(ValueError, match="'magnitude' must be <= bins = 10: 11"):
        RandAugment(magnitude=11, bins=10)
