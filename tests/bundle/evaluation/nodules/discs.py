"""Made-up nodules: ellipses and rectangles whose axes are known."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import strategies as st

from scripts.data.transforms import from_hu
from scripts.evaluation.nodules import growth

SIZE = 64
angles = st.floats(0, math.pi)
pixels = st.tuples(st.floats(0.4, 0.9), st.floats(0.4, 0.9))


def turned(spacing, angle, centre=(0.0, 0.0)):
    """Coordinates in mm about the middle of a crop, along and across an axis at an angle."""
    x, y = np.meshgrid(*((np.arange(SIZE) - SIZE // 2) * pixel for pixel in spacing), indexing="ij")
    x, y = x - centre[0], y - centre[1]
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def nodule(long=10.0, short=10.0, level=0.0, angle=0.0, spacing=(0.5, 0.5), centre=(0.0, 0.0), noise=0.0):
    """HU of an ellipse in lung, its edge as soft as a scanner's."""
    u, v = turned(spacing, angle, centre)
    inside = np.clip((1 - np.hypot(u / (long / 2), v / (short / 2))) * short / 2 / 0.7 + 0.5, 0, 1)
    return -850 + (level + 850) * inside + np.random.default_rng(0).normal(0, noise, u.shape)


def measured(*crops, spacing=(0.5, 0.5)):
    images = from_hu(np.stack(crops))[None, :, None]
    return growth.measure(images, np.tile(spacing, (len(crops), 1)))
