"""Takes a CT scan of a simulated chest: position, sampling, kernel, noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

from data_prep.phantom.anatomy import LUMEN, SOFT_TISSUE, Chest
from data_prep.phantom.lesion import Lesion
from data_prep.phantom.shapes import Tubes, paint
from scripts.arrays import Array

PIXELS = 224
SUBSLICES = (-0.25, 0.25)
"""Where a slice is sampled, in slice thicknesses: what ends within a slice shows in part."""

KERNELS = {"SOFT": (0.55, 0.9), "STANDARD": (0.45, 0.7), "SHARP": (0.32, 0.45)}
"""Blur of edges in mm and of noise in pixels."""


@dataclass(frozen=True)
class Scan:
    """One scan as it is written.

    Attributes:
        hu: (N, PIXELS, PIXELS) int16: slice (from the feet up), column, row.
        origin: centre of the first voxel of the lowest slice, mm, LPS.
        spacing: in plane and between slices, mm.
        kernel: its name.
        centres: of each nodule, mm, LPS.
    """

    hu: NDArray[np.int16]
    origin: NDArray[np.float64]
    spacing: tuple[float, float]
    kernel: str
    centres: list[NDArray[np.float64]]


def scan(chest: Chest, lesions: list[Lesion], place: NDArray[np.float64], pixel: float, rng: Generator) -> Scan:
    """Scans a chest.

    Args:
        chest: what lies about the nodules.
        lesions: the nodules, each at its offset.
        place: where the first nodule is when the patient lies still, mm, LPS.
        pixel: size, mm.
        rng: how the patient lies and breathes this time, slices, kernel, noise.
    """
    kernel = str(rng.choice(list(KERNELS)))
    count, thickness = int(rng.integers(7, 11)), float(rng.choice([2.0, 2.5]))
    angle = np.radians(rng.normal(0.0, 2.0))
    turn = np.array([[np.cos(angle), -np.sin(angle), 0.0], [np.sin(angle), np.cos(angle), 0.0], [0.0, 0.0, 1.0]])
    chest_shift = rng.normal(0.0, [2.0, 2.0, 8.0])
    offsets = np.array([lesion.nodule.offset for lesion in lesions])
    centres = offsets @ turn.T + place + chest_shift
    middle = centres.mean(axis=0) + np.append(rng.uniform(-18.0, 18.0, 2), thickness * rng.uniform(-0.5, 0.5))
    origin = np.round(middle - [pixel * PIXELS / 2, pixel * PIXELS / 2, thickness * (count // 2)], 3)
    breath, deviation = rng.normal(0.0, 12.0), rng.uniform(20.0, 30.0)
    slices = [
        _slice(chest, lesions, turn, place + chest_shift, origin + [0.0, 0.0, thickness * number], pixel, thickness)
        for number in range(count)
    ]
    edge, grain = KERNELS[kernel]
    hu = np.stack([_acquired(plane, edge / pixel, breath, _noise(grain, deviation, rng)) for plane in slices])
    return Scan(hu, origin, (pixel, thickness), kernel, list(centres))


def _slice(
    chest: Chest,
    lesions: list[Lesion],
    turn: NDArray[np.float64],
    shift: NDArray[np.float64],
    origin: NDArray[np.float64],
    pixel: float,
    thickness: float,
) -> Array:
    """HU of a slice, (column, row), without blur and noise."""
    x = (origin[0] - shift[0] + pixel * np.arange(PIXELS, dtype=np.float32))[:, None].astype(np.float32)
    y = (origin[1] - shift[1] + pixel * np.arange(PIXELS, dtype=np.float32))[None, :].astype(np.float32)
    z = float(origin[2] - shift[2])
    back = turn.T.astype(np.float32)  # pixels back into the patient's own frame
    own_x, own_y = back[0, 0] * x + back[0, 1] * y, back[1, 0] * x + back[1, 1] * y
    hu = chest.lung(own_x, own_y, z)
    parts = [_with_structures(hu, chest, lesions, turn, x, y, z + share * thickness) for share in SUBSLICES]
    hu = np.mean(parts, axis=0, dtype=np.float32)
    chest.surround(hu, own_x, own_y, z)
    return hu


def _with_structures(
    lung: Array, chest: Chest, lesions: list[Lesion], turn: NDArray[np.float64], x: Array, y: Array, z: float
) -> Array:
    """The lung with nodules, vessels and airways, at one height."""
    hu = lung.copy()
    centres = [turn @ np.array(lesion.nodule.offset) for lesion in lesions]
    near = [
        (lesion, centre, _window(lesion.reach, centre, x, y))
        for lesion, centre in zip(lesions, centres, strict=True)
        if abs(z - centre[2]) < lesion.reach
    ]
    for lesion, (cx, cy, cz), window in near:
        lesion.draw_glass(hu[window], x[window[0]] - np.float32(cx), y[:, window[1]] - np.float32(cy), z - cz)
    still = np.zeros(3)
    for tubes, tissue in ((chest.airways, -150.0), (chest.lumina, LUMEN), (chest.vessels, SOFT_TISSUE)):
        paint(hu, tubes.moved(turn, still).coverage(x, y, z), tissue)
    for lesion, centre in zip(lesions, centres, strict=True):
        strands: Tubes = lesion.spicules.moved(turn, centre)
        paint(hu, strands.coverage(x, y, z), lesion.solid_hu if lesion.core == 1.0 else lesion.glass_hu + 200.0)
    for lesion, (cx, cy, cz), window in near:
        lesion.draw_solid(hu[window], x[window[0]] - np.float32(cx), y[:, window[1]] - np.float32(cy), z - cz)
    return hu


def _window(reach: float, centre: NDArray[np.float64], x: Array, y: Array) -> tuple[slice, slice]:
    """The pixels within ``reach`` of a nodule."""
    columns = slice(*np.searchsorted(x[:, 0], (centre[0] - reach, centre[0] + reach)))
    rows = slice(*np.searchsorted(y[0], (centre[1] - reach, centre[1] + reach)))
    return columns, rows


def _acquired(plane: Array, blur: float, breath: float, noise: Array) -> NDArray[np.int16]:
    """A slice as the scanner gives it: blurred (pixels), lung denser or thinner by the breath (HU), noisy."""
    blurred = ndimage.gaussian_filter(plane, blur)
    blurred += np.float32(breath) * ((blurred < -700.0) & (blurred > -960.0))
    return np.rint((blurred + noise).clip(-1024.0, 3071.0)).astype(np.int16)


def _noise(grain: float, deviation: float, rng: Generator) -> Array:
    """Noise with a grain (pixels) and a deviation (HU).

    Filtered back projection holds back low frequencies: what is coarser than some pixels is taken out again.
    """
    white = rng.standard_normal((PIXELS, PIXELS), dtype=np.float32)
    noise = ndimage.gaussian_filter(white, grain) - ndimage.gaussian_filter(white, 3.0 * grain + 0.5)
    return np.asarray(noise * np.float32(deviation) / noise.std(), dtype=np.float32)
