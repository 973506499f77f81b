"""Draws 150 pictures of leaves with masks and a CSV: the folder of the tutorial on own data.

Usage: ``python docs/examples/leaves.py FOLDER``. Two of three leaves have a mask; some cells of the CSV are empty.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.ImageDraw import Draw

SIZE = 64
SPECIES = {"birch": (1.0, (90, 140, 60)), "oak": (1.5, (110, 130, 50)), "willow": (3.5, (130, 160, 110))}
"""Name → length divided by width, and colour."""


def leaf(rng: np.random.Generator, species: str) -> tuple[Image.Image, Image.Image]:
    """A photograph and its mask: 0 background, 1 leaf, 2 spot."""
    ratio, colour = SPECIES[species]
    photo, mask = Image.new("RGB", (SIZE, SIZE), (205, 200, 190)), Image.new("L", (SIZE, SIZE))
    length = rng.uniform(20, 27)
    box = [SIZE / 2 - length / ratio, SIZE / 2 - length, SIZE / 2 + length / ratio, SIZE / 2 + length]
    shade = tuple(int(channel + rng.integers(-15, 15)) for channel in colour)
    Draw(photo).ellipse(box, fill=shade)
    Draw(mask).ellipse(box, fill=1)
    for _ in range(rng.integers(0, 7)):
        x, y, r = rng.uniform(box[0], box[2]), rng.uniform(box[1], box[3]), rng.uniform(1.5, 4)
        if mask.getpixel((int(x), int(y))):
            Draw(photo).ellipse([x - r, y - r, x + r, y + r], fill=(120, 70, 40))
            Draw(mask).ellipse([x - r, y - r, x + r, y + r], fill=2)
    angle = rng.uniform(-40, 40)
    photo, mask = photo.rotate(angle, fillcolor=(205, 200, 190)), mask.rotate(angle)
    noise = rng.normal(0, 8, (SIZE, SIZE, 3))
    return Image.fromarray(np.clip(np.asarray(photo) + noise, 0, 255).astype(np.uint8)), mask


def main(folder: Path) -> None:
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    rows = []
    for number in range(150):
        name, species = f"leaf-{number:03d}", list(SPECIES)[number % 3]
        photo, mask = leaf(rng, species)
        photo.save(folder / "images" / f"{name}.jpg", quality=92)
        if rng.random() < 2 / 3:
            mask.save(folder / "masks" / f"{name}.png")
        values = np.asarray(mask)
        damage = f"{100 * (values == 2).sum() / (values > 0).sum():.1f}"
        known = rng.random(2) < 0.8
        rows.append((f"{name}.jpg", species if known[0] else "", damage if known[1] else ""))
    with (folder / "leaves.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "species", "damage"), *rows])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
