"""From a scene to an image and what is exact about it: depth, normals, classes.

Shape letters: H and W image size.
"""

from __future__ import annotations

import attrs
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from mtl_scenes.geometry import Array, Index
from mtl_scenes.materials import albedo
from mtl_scenes.scene import Scene
from mtl_scenes.shading import expose, shade
from mtl_scenes.surfaces import resolve, trace


@attrs.frozen
class View:
    """What the camera sees.

    :param image: uint8 (3, H, W)
    :param depth: (H, W) metres along the optical axis
    :param normals: (3, H, W) unit vectors in the camera frame, towards the camera
    :param classes: (H, W) position in ``CLASSES``
    :param rays: (3, H, W) camera frame, z = 1: ``rays * depth`` are the points
    """

    image: NDArray[np.uint8]
    depth: Array
    normals: Array
    classes: Index
    rays: Array


def render(scene: Scene, size: tuple[int, int], rng: Generator) -> View:
    """:param rng: the sensor's noise."""
    rays = scene.camera.rays(size)
    directions = scene.camera.to_world(rays)
    depth, hit = trace(scene, directions)
    surface = resolve(scene, directions, depth, hit)
    normals = scene.camera.to_camera(surface.normals)
    facing = -(normals * rays).sum(0) / np.sqrt((rays * rays).sum(0))
    footprint = depth / (scene.camera.focal * size[1] * np.maximum(facing, 0.05))
    colour = albedo(scene.materials, surface.material, surface.u, surface.v, footprint)
    light = shade(scene, surface)
    return View(expose(colour * light, rng, scene.gain, scene.noise), depth, normals, surface.classes, rays)
