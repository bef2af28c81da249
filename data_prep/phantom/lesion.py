"""What a nodule looks like: solid, part-solid or ground glass; smooth, spiculated or poorly defined."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from data_prep.phantom.patients import POORLY_DEFINED, SMOOTH, SPICULATED, Nodule
from data_prep.phantom.shapes import Noise, Tubes, paint, step
from scripts.arrays import Array
from scripts.ehr.brock import GROUND_GLASS, SOLID

LOBULATION = {SPICULATED: 0.13, SMOOTH: 0.06, POORLY_DEFINED: 0.17}
SOFTNESS_MM = {SPICULATED: 0.5, SMOOTH: 0.35, POORLY_DEFINED: 1.2}


class Lesion:
    """The shape of one nodule at one time, drawn into the frame of :class:`data_prep.phantom.anatomy.Chest`.

    An ellipsoid, its longest and perpendicular diameters in the axial plane, with a surface that waves as a sum of
    plane waves over the sphere, and spicules that run out of it.

    Args:
        nodule: attributes at T0.
        scale: diameter over that at T0.
        rng: the shape; the same generator state gives the same nodule at another scale.
    """

    def __init__(self, nodule: Nodule, scale: float, rng: Generator) -> None:
        self.nodule = nodule
        long_axis, short_axis = nodule.diameters[0] / 2.0, nodule.diameters[1] / 2.0
        self.axes = scale * np.array([long_axis, short_axis, np.sqrt(long_axis * short_axis) * rng.uniform(0.8, 1.1)])
        angle = rng.uniform(0.0, np.pi)
        self.turn = np.array([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]])
        self.waves = rng.normal(0.0, 2.6, (8, 3))
        self.phases = rng.uniform(0.0, 2.0 * np.pi, 8)
        # Large nodules are lobed more than small ones, and cancers grow less evenly than they began.
        uneven = (min(scale**0.5, 1.4) if nodule.malignant else 1.0) * np.clip(long_axis / 5.0, 0.8, 1.8) ** 0.7
        self.lobulation = LOBULATION[nodule.margins] * uneven
        self.softness = SOFTNESS_MM[nodule.margins] * (1.5 if nodule.attenuation == GROUND_GLASS else 1.0)
        self.solid_hu = rng.normal(35.0, 12.0)
        self.glass_hu = rng.uniform(-690.0, -560.0) + (60.0 * min(scale - 1.0, 1.0) if nodule.malignant else 0.0)
        core = rng.uniform(0.35, 0.6)
        self.core = 1.0 if nodule.attenuation == SOLID else min(core * scale**0.5 if nodule.malignant else core, 0.85)
        self.core_offset = rng.uniform(-0.3, 0.3, 3) * self.axes
        self.grain = Noise(rng, 2.2, (48, 48, 16))
        self.spicules = self._spicules(scale, rng)

    @property
    def reach(self) -> float:
        """No part of the nodule but its spicules is farther from its middle, mm."""
        return float(self.axes.max() * (1.0 + 4.0 * self.lobulation) + 3.0 * self.softness)

    def _spicules(self, scale: float, rng: Generator) -> Tubes:
        """Fine strands from inside the surface outwards; none but of spiculated nodules, one or two of others."""
        count = int(rng.integers(0, 3))
        if self.nodule.margins == SPICULATED:
            count += 14 + int(self.nodule.diameters[0])
        directions = rng.normal(0.0, [1.0, 1.0, 0.6], (count, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        lengths = (1.5 + rng.gamma(2.0, 1.8, (count, 1))) * scale**0.5
        thickness = rng.uniform(0.5, 1.0, count) * (0.7 + 0.03 * self.axes[0])
        surface = directions * self.axes
        bend = rng.normal(0.0, 0.15, (count, 3))
        outwards = directions + bend
        start, end = 0.75 * surface @ self.turn, (surface + lengths * outwards) @ self.turn
        return Tubes(start, end, np.stack([thickness, 0.25 * thickness], axis=1))

    def distance(self, x: Array, y: Array, z: float, share: float = 1.0, centre: NDArray | None = None) -> Array:
        """Signed distance to the surface, mm, about; negative inside.

        Args:
            x, y, z: from the nodule's middle.
            share: of all axes, for the solid core.
            centre: of that core.
        """
        centre = np.zeros(3) if centre is None else centre
        dx, dy = x - np.float32(centre[0]), y - np.float32(centre[1])
        dz = np.full(np.broadcast_shapes(x.shape, y.shape), z - centre[2], dtype=np.float32)
        axes = (share * self.axes).astype(np.float32)
        turned = np.tensordot(self.turn.astype(np.float32), np.stack(np.broadcast_arrays(dx, dy, dz)), axes=1)
        scaled = turned / axes[:, None, None]
        radius = np.sqrt((scaled**2).sum(axis=0)) + np.float32(1e-3)
        angles = np.tensordot(self.waves.astype(np.float32), scaled / radius, axes=1)
        waving = np.cos(angles + self.phases.astype(np.float32)[:, None, None]).sum(axis=0)
        surface = 1.0 + np.float32(self.lobulation / 2.0 * (1.0 + 0.5 * (share < 1.0))) * waving
        return (radius - surface) * np.sqrt(axes[0] * axes[1])

    def draw_glass(self, hu: Array, x: Array, y: Array, z: float) -> None:
        """The ground glass part, in place; vessels are drawn over it and stay visible."""
        if self.nodule.attenuation == SOLID:
            return
        paint(hu, step(self.distance(x, y, z), self.softness), self._grained(self.glass_hu, 35.0, x, y, z))

    def draw_solid(self, hu: Array, x: Array, y: Array, z: float) -> None:
        """The solid part, in place."""
        if self.nodule.attenuation == GROUND_GLASS:
            return
        part_solid = self.core < 1.0
        distance = self.distance(x, y, z, self.core, self.core_offset if part_solid else None)
        softness = 0.9 if part_solid else self.softness
        paint(hu, step(distance, softness), self._grained(self.solid_hu, 8.0, x, y, z))

    def _grained(self, mean: float, deviation: float, x: Array, y: Array, z: float) -> Array:
        """Density with a fine texture."""
        columns, rows = np.broadcast_arrays(x, y)
        return np.float32(mean) + np.float32(deviation) * self.grain(columns, rows, z)
