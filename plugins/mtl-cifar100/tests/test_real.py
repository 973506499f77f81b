"""The real images, where they are: a tenth of the original in the original's form."""

from __future__ import annotations

import torch

from mtl_cifar100 import CIFAR100


def test_counts_and_labels(real):
    train, test = (CIFAR100(root=str(real)).build_dataset(split) for split in ("train", "test"))
    for data in (train, test):
        assert len(data) % 100 == 0
        assert data.labelled.sum(0).tolist() == [len(data) // 20] * 20
        assert torch.stack([data.classes[data.domains == d].bincount() for d in range(20)]).unique().numel() == 1


def test_file_names_fit_the_classes(real):
    """Images are named by the word that they were searched with: those of a class share a few of them."""
    data = CIFAR100(root=str(real)).build_dataset("test")
    people = [data.names[i].split("-")[1] for i in range(len(data)) if data.labelled[i, data.tasks.position("people")]]
    words = ("baby", "boy", "girl", "man", "woman", "infant", "male", "female", "child", "lad", "person")
    assert sum(any(word in name for word in words) for name in people) > len(people) / 3


def test_images_are_natural_images(real):
    """Neighbouring pixels are alike, and skies and seas are bluer than fruit."""
    data = CIFAR100(root=str(real)).build_dataset("test")
    images = data.images.float()
    steps = (images[..., 1:] - images[..., :-1]).abs().mean()
    assert steps < 0.3 * (images - images.flip(0)).abs().mean()
    blueness = images[:, 2].mean((1, 2)) - images[:, 0].mean((1, 2))
    by_domain = {name: blueness[data.labelled[:, k]].mean() for k, name in enumerate(data.tasks.names)}
    assert by_domain["large_natural_outdoor_scenes"] > by_domain["fruit_and_vegetables"] + 20
