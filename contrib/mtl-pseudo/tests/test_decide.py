"""From a model's output to labels."""

from __future__ import annotations

import torch

from mtl_pseudo.decide import at_size, distributions, instance_masks, masks, tokens


def test_a_mask_is_ignored_below_the_score() -> None:
    shares = torch.tensor([[[[0.6, 0.4]], [[0.3, 0.35]], [[0.1, 0.25]]]])
    found = masks(shares.log(), (1, 2), 0.5)
    assert found.tolist() == [[[0, -1]]]
    assert masks(shares.log(), (1, 2), 0.0).tolist() == [[[0, 0]]]


def test_masks_have_the_images_size() -> None:
    logits = torch.zeros(2, 3, 2, 2)
    logits[:, 1, :, 0] = logits[:, 2, :, 1] = 50
    found = masks(logits, (8, 12), 0.5)
    assert found.shape == (2, 8, 12)
    assert (found[:, :, :4] == 1).all()
    assert (found[:, :, 8:] == 2).all()


def test_the_surest_instance_lies_on_top_and_unsure_ones_are_left_out() -> None:
    wide, left, right = (torch.zeros(1, 1, 2, 4) for _ in range(3))
    wide[:], left[..., :2], right[..., 3:] = 0.9, 0.9, 0.9
    left[..., 0, 0] = 0.4
    found = {
        "scores": torch.tensor([0.9, 0.8, 0.3]),
        "labels": torch.tensor([7, 3, 7]),
        "masks": torch.cat((left, wide, right)),
    }
    painted = instance_masks([found], (2, 4), 0.5, {3: 0, 7: 1})
    assert painted.tolist() == [[[0, 1, 0, 0], [1, 1, 0, 0]]]
    assert instance_masks([found], (2, 4), 0.85, {3: 0, 7: 1}).tolist() == [[[-1, 1, -1, -1], [1, 1, -1, -1]]]
    assert (instance_masks([found], (2, 4), 0.5, {}) == -1).all()


def test_distributions_add_up_to_one() -> None:
    found = distributions(torch.randn(3, 5).half())
    torch.testing.assert_close(found.sum(1), torch.ones(3))
    assert found.dtype == torch.float32


def test_tokens_keep_the_likeliest_classes() -> None:
    shares = torch.tensor([0.5, 0.1, 0.3, 0.1])[None, :, None, None].expand(1, 4, 2, 3)
    classes, kept = tokens(shares.log(), 2)
    assert classes.shape == kept.shape == (1, 2, 2, 3)
    assert classes[0, :, 1, 2].tolist() == [0, 2]
    torch.testing.assert_close(kept[0, :, 0, 0], torch.tensor([0.625, 0.375]))


def test_a_token_fills_its_part_of_the_image() -> None:
    grid = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    found = at_size(grid, (4, 6))
    assert found.shape == (1, 4, 6)
    assert found[0, :2, :3].eq(1).all()
    assert found[0, 2:, 3:].eq(4).all()
