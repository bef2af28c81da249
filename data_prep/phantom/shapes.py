"""Fields and shapes, sampled on the pixels of one plane.

A plane's pixels are given as ``x`` (X, 1) and ``y`` (1, Y), float32 mm, and its height as ``z``. Coverage is the share
of a pixel that a shape fills, 0 to 1, so that edges are smooth and thin vessels fade instead of breaking up.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

from scripts.arrays import Array


class Noise:
    """A smooth random field of mean 0 and deviation 1 in three dimensions, periodic, fixed by its generator.

    Args:
        correlation: over what distance values hang together, mm.
    """

    def __init__(self, rng: Generator, correlation: float, shape: tuple[int, int, int] = (96, 96, 24)) -> None:
        self.spacing = correlation / 1.5
        lattice = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), 1.0, mode="wrap")
        self.lattice = lattice / lattice.std()

    def __call__(self, x: Array, y: Array, z: float, every: int = 1) -> Array:
        """The field at points of a regular grid, (X, Y) each, and one height, mm.

        Args:
            every: look up each so many-th point along both axes, the others lie on the lines between; it saves time
                where the field changes slowly.
        """
        level = z / self.spacing
        low = int(np.floor(level))
        depth = self.lattice.shape[2]
        weight = np.float32(level - low)
        plane = (1 - weight) * self.lattice[..., low % depth] + weight * self.lattice[..., (low + 1) % depth]
        points = np.stack([x[::every, ::every], y[::every, ::every]]) / np.float32(self.spacing)
        coarse = ndimage.map_coordinates(plane, points, order=1, mode="grid-wrap", prefilter=False)
        return coarse if every == 1 else _between(x.shape[0], every) @ coarse @ _between(x.shape[1], every).T


@lru_cache
def _between(count: int, every: int) -> Array:
    """Matrix (count, knots) that interpolates linearly from each ``every``-th point to all; constant past the last."""
    knots = np.arange(0, count, every)
    columns = [np.interp(np.arange(count), knots, unit) for unit in np.eye(len(knots))]
    return np.stack(columns, axis=1).astype(np.float32)


@dataclass
class Tubes:
    """Straight tapering tubes: vessels, airways, spicules.

    Attributes:
        start, end: (N, 3) mm.
        radii: (N, 2) at start and end, mm.
    """

    start: NDArray[np.float64]
    end: NDArray[np.float64]
    radii: NDArray[np.float64]

    def moved(self, rotation: NDArray[np.float64], shift: NDArray[np.float64]) -> Tubes:
        """The tubes after a rigid motion, ``rotation`` (3, 3) first."""
        return Tubes(self.start @ rotation.T + shift, self.end @ rotation.T + shift, self.radii)

    def coverage(self, x: Array, y: Array, z: float) -> Array:
        """Coverage of the pixels, (X, Y)."""
        pixel = float(x[1, 0] - x[0, 0])
        covered = np.zeros((x.size, y.size), dtype=np.float32)
        reach = self.radii.max(axis=1, initial=0.0)[:, None] + pixel
        low, high = np.minimum(self.start, self.end) - reach, np.maximum(self.start, self.end) + reach
        corner = np.array([x[0, 0], y[0, 0]])
        first = np.ceil((low[:, :2] - corner) / pixel).clip(0).astype(int)
        last = np.floor((high[:, :2] - corner) / pixel).clip(-1, np.array(covered.shape) - 1).astype(int) + 1
        seen = (low[:, 2] <= z) & (z <= high[:, 2]) & (first < last).all(axis=1)
        for index in np.flatnonzero(seen).tolist():
            window = tuple(slice(*ends) for ends in zip(first[index], last[index], strict=True))
            patch = covered[window]
            np.maximum(patch, self._one(index, x[window[0]], y[:, window[1]], z, pixel), out=patch)
        return covered

    def _one(self, index: int, x: Array, y: Array, z: float, pixel: float) -> Array:
        """Coverage by one tube of a patch of pixels."""
        # Plain floats keep the arrays in float32.
        (x0, y0, z0), (ax, ay, az) = self.start[index].tolist(), (self.end[index] - self.start[index]).tolist()
        first, last = self.radii[index].tolist()
        dx, dy, dz = x - x0, y - y0, z - z0
        length2 = ax * ax + ay * ay + az * az
        share = dx * (ax / length2) + (dy * ay + dz * az) / length2
        share = np.minimum(np.maximum(share, 0.0), 1.0)
        distance = np.sqrt((dx - share * ax) ** 2 + (dy - share * ay) ** 2 + (dz - share * az) ** 2)
        radius = first + share * (last - first)
        filled = np.minimum(np.maximum((radius - distance) / pixel + 0.5, 0.0), 1.0)
        return filled * np.minimum(2.0 * radius / pixel, 1.0)


def step(distance: Array, softness: float) -> Array:
    """Coverage by a shape from the signed distance to its surface (negative inside), mm."""
    return 0.5 - 0.5 * np.tanh(distance / np.float32(softness))


def paint(hu: Array, coverage: Array, tissue: Array | float) -> None:
    """Lays a tissue over an image, in place."""
    hu += coverage * (tissue - hu)
