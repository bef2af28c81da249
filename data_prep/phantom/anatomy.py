"""The chest about a nodule: lung, vessels, airways, chest wall with ribs, mediastinum.

One frame for all: mm, axes as in LPS, origin in the middle of the patient's first nodule. Everything is drawn once per
patient; both scans look at the same anatomy. HU are those of unenhanced CT.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from data_prep.phantom.patients import RIGHT, Patient
from data_prep.phantom.shapes import Noise, Tubes, paint, step
from scripts.arrays import Array

SOFT_TISSUE, FAT, AIR, LUMEN = 42.0, -95.0, -1000.0, -940.0
CORTEX, MARROW = 650.0, 190.0
RIB_PERIOD, RIB_DEPTH, RIB_THICKNESS, RIB_HEIGHT = 25.0, 8.0, 4.2, 6.5


class Chest:
    """Anatomy of one patient.

    Args:
        patient: side of the lung, emphysema and size of the nodules are taken from it.
        rng: all else.
    """

    def __init__(self, patient: Patient, rng: Generator) -> None:
        first = patient.nodules[0]
        self.emphysema = bool(patient.emphysema)
        self.base = rng.normal(-862.0, 15.0) - 25.0 * self.emphysema
        self.gradient = rng.uniform(0.1, 0.45)  # HU per mm: blood follows gravity to the back of a patient who lies
        self.clouds, self.grain = Noise(rng, 14.0), Noise(rng, 3.0)
        self.relief, self.layers = Noise(rng, 30.0), Noise(rng, 9.0)
        lateral = np.array([-1.0 if first.location in RIGHT else 1.0, 0.0])
        reach = max(np.hypot(*nodule.offset[:2]) + nodule.diameters[0] / 2 for nodule in patient.nodules)
        self.wall_radius = rng.uniform(75.0, 110.0)
        depth = self._gap(rng) + first.diameters[0] / 2
        self.wall_centre = _turned(lateral, rng.uniform(-80.0, 80.0)) * (depth - self.wall_radius)
        self.hilum_radius = rng.uniform(40.0, 65.0)
        medial = _turned(-lateral, rng.uniform(-35.0, 35.0))
        self.hilum_centre = medial * (rng.uniform(18.0, 60.0) + reach + self.hilum_radius)
        self.skin = rng.uniform(28.0, 48.0)
        self.rib_slope, self.rib_phase = rng.uniform(0.35, 0.7), rng.uniform(0.0, RIB_PERIOD)
        self.vessels, self.airways, self.lumina = _trees(self, patient, rng)

    @staticmethod
    def _gap(rng: Generator) -> float:
        """From the nodule's edge to the pleura, mm."""
        low, high = ((-0.5, 2.0), (2.0, 15.0), (15.0, 50.0))[rng.choice(3, p=[0.25, 0.35, 0.4])]
        return float(rng.uniform(low, high))

    def lung(self, x: Array, y: Array, z: float) -> Array:
        """HU of the lung without vessels at points (x, y) and one height."""
        hu = np.full(x.shape, self.base, dtype=np.float32) + np.float32(self.gradient) * y
        hu += 14.0 * self.clouds(x, y, z, every=4) + 22.0 * self.grain(x, y, z, every=2)
        if self.emphysema:
            hu -= 90.0 * step(0.9 - self.layers(x, y, z, every=4), 0.35)
        return hu

    def surround(self, hu: Array, x: Array, y: Array, z: float) -> None:
        """Draws chest wall and mediastinum over the lung, in place."""
        relief, layers = self.relief(x, y, z, every=8), self.layers(x, y, z, every=4)
        self._mediastinum(hu, x, y, relief, layers)
        dx, dy = x - np.float32(self.wall_centre[0]), y - np.float32(self.wall_centre[1])
        depth = np.hypot(dx, dy) - np.float32(self.wall_radius) + 1.2 * relief
        if depth.max() < -3.0:
            return
        # From the pleura outwards: intercostal muscle and ribs, a sheet of fat, muscle, fat, skin, air.
        fat = step(np.abs(depth - 15.0) - 1.5 - layers, 0.8) + step(25.0 + 4.0 * layers - depth, 1.0)
        wall = SOFT_TISSUE + fat.clip(0.0, 1.0) * (FAT - SOFT_TISSUE) + 6.0 * layers
        paint(wall, step(np.abs(depth - self.skin) - 1.0, 0.5), SOFT_TISSUE)
        self._ribs(wall, depth, np.arctan2(dy, dx) * np.float32(self.wall_radius), z)
        paint(wall, step(self.skin + 1.0 - depth, 0.5), AIR)
        paint(hu, step(-depth, 0.45), wall)

    def _ribs(self, wall: Array, depth: Array, arc: Array, z: float) -> None:
        """Ribs run obliquely downwards, so that a slice cuts each along a part of its way."""
        height = (z - self.rib_slope * arc + self.rib_phase) % RIB_PERIOD - RIB_PERIOD / 2
        across = np.hypot((depth - RIB_DEPTH) / RIB_THICKNESS, height / RIB_HEIGHT)
        distance = (across - 1.0) * RIB_THICKNESS
        paint(wall, step(distance, 0.4), CORTEX)
        paint(wall, step(distance + 1.7, 0.5), MARROW)

    def _mediastinum(self, hu: Array, x: Array, y: Array, relief: Array, layers: Array) -> None:
        """Heart, great vessels and the fat between them."""
        depth = np.hypot(x - np.float32(self.hilum_centre[0]), y - np.float32(self.hilum_centre[1]))
        depth -= np.float32(self.hilum_radius) - 5.0 * relief
        tissue = SOFT_TISSUE + step(1.1 - layers, 0.3) * (FAT - SOFT_TISSUE)
        paint(hu, step(depth, 0.6), tissue)


def _turned(direction: NDArray[np.float64], degrees: float) -> NDArray[np.float64]:
    """A direction in the axial plane, turned."""
    angle = np.radians(degrees)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ direction


Point = NDArray[np.float64]
Part = tuple[Point, Point, float, float]
"""Start, end (mm) and the radii there."""


def _trees(chest: Chest, patient: Patient, rng: Generator) -> tuple[Tubes, Tubes, Tubes]:
    """Vessels, and airways beside the larger ones: trees from the hilum outwards, twigs everywhere, nodules' own."""
    outwards = np.append(chest.wall_centre - chest.hilum_centre, 0.0) + rng.normal(0.0, 5.0, 3)
    vessels: list[Part] = []
    airways: list[Part] = []
    for _ in range(12):
        angle = np.arctan2(outwards[1], outwards[0]) + rng.uniform(-1.4, 1.4)
        direction = np.array([np.cos(angle), np.sin(angle), rng.normal(0.0, 0.3)])
        edge = chest.hilum_centre + 0.9 * chest.hilum_radius * direction[:2]
        root = np.append(edge, rng.uniform(-22.0, 22.0))
        _grow(root, direction, rng.uniform(1.6, 3.6), vessels, airways, rng)
    for _ in range(130):  # twigs that cross the slices and show as dots and dashes
        start = np.append(rng.uniform(-80.0, 80.0, 2), rng.uniform(-15.0, 12.0))
        _wander(start, rng.normal(0.0, [0.7, 0.7, 0.8]), 0.4 + rng.exponential(0.28), 3, vessels, rng)
    for nodule in patient.nodules:  # a third of nodules stand alone, the others on one or two vessels
        for _ in range(rng.integers(0, 3)):
            to_hilum = np.append(chest.hilum_centre, 0.0) - nodule.offset
            direction = to_hilum / np.linalg.norm(to_hilum) + rng.normal(0.0, [0.9, 0.9, 0.3])
            _wander(np.array(nodule.offset), direction, rng.uniform(0.5, 1.1), 7, vessels, rng, thicker=1.06)
    lumina = [(start, end, 0.68 * first, 0.68 * last) for start, end, first, last in airways]
    return _tubes(vessels), _tubes(airways), _tubes(lumina)


def _wander(
    start: Point, direction: Point, radius: float, bends: int, parts: list[Part], rng: Generator, thicker: float = 0.95
) -> tuple[Point, Point, float]:
    """A vessel in bends; returns where it ends, its direction and radius there."""
    for _ in range(bends):
        direction = direction / np.linalg.norm(direction) + rng.normal(0.0, 0.18, 3)
        end = start + direction * rng.uniform(2.5, 6.0)
        parts.append((start, end, radius, thicker * radius))
        start, radius = end, thicker * radius
    return start, direction, radius


def _tubes(parts: list[Part]) -> Tubes:
    return Tubes(
        np.array([part[0] for part in parts]).reshape(-1, 3),
        np.array([part[1] for part in parts]).reshape(-1, 3),
        np.array([part[2:] for part in parts]).reshape(-1, 2),
    )


def _grow(
    start: Point,
    direction: Point,
    radius: float,
    vessels: list[Part],
    airways: list[Part],
    rng: Generator,
    level: int = 0,
) -> None:
    """One branch, then the two that it forks into; areas roughly add up (Murray's law)."""
    if radius < 0.35 or level > 8 or np.abs(start).max() > 110.0:
        return
    before = len(vessels)
    start, direction, radius = _wander(start, direction, radius, 3, vessels, rng)
    if radius > 1.4:
        for first, last, thick, thin in vessels[before:]:
            aside = np.cross(last - first, [0.0, 0.0, 1.0])
            aside *= 1.9 * thick / (np.linalg.norm(aside) + 1e-6)
            airways.append((first + aside, last + aside, 0.95 * thick, 0.95 * thin))
    for share, spread in ((rng.uniform(0.82, 0.95), 0.2), (rng.uniform(0.5, 0.8), 0.75)):
        turned = direction / np.linalg.norm(direction) + rng.normal(0.0, spread, 3)
        _grow(start, turned, share * radius, vessels, airways, rng, level + 1)
