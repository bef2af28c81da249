"""A small made-up study: nodules are discs, malignant ones grow, and the classifier measures brightness."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

SIZE = 64


def disc(radius: float, noise: np.random.Generator) -> np.ndarray:
    x, y = np.meshgrid(*(np.arange(SIZE) - SIZE / 2,) * 2, indexing="ij")
    image = np.where(np.hypot(x, y) < radius, 0.4, -0.8) + noise.normal(0, 0.05, (SIZE, SIZE))
    return np.clip(image, -1, 1).astype(np.float32)[None]


def classifier(images: torch.Tensor) -> torch.Tensor:
    return torch.sigmoid(20 * (images.mean(dim=(1, 2, 3)) + 0.72))


def make_study(count: int = 12, runs: int = 4, seed: int = 0) -> dict[str, Any]:
    """Arguments of `evaluate`: two nodules a patient, every third one malignant."""
    noise = np.random.default_rng(seed)
    malignant = [index % 3 == 0 for index in range(count)]
    radii = noise.uniform(4, 12, count)
    grown = radii + np.where(malignant, 4.0, 0.0) + noise.normal(0, 1, count)
    guessed = radii + np.where(malignant, 2.5, 0.5) + noise.normal(0, 1.5, (runs, count))
    return {
        "baseline": np.stack([disc(radius, noise) for radius in radii]),
        "follow_up": np.stack([disc(radius, noise) for radius in grown]),
        "cases": [
            {
                "case_id": f"case-{index:02d}",
                "patient_id": f"patient-{index // 2}",
                "malignant": int(malignant[index]),
                "ehr": {"sct_long_dia": 2 * float(radii[index])},
            }
            for index in range(count)
        ],
        "generated": {"NAMD": np.stack([np.stack([disc(radius, noise) for radius in run]) for run in guessed])},
        "classifier": classifier,
        "dataset": "discs",
        "simulated": "discs are drawn & 'simulated'",
        "resamples": 50,
        "command": "python evaluate.py <discs> & co",
    }


@pytest.fixture(scope="session", name="make_study")
def make_study_fixture() -> Callable[..., dict[str, Any]]:
    return make_study


@pytest.fixture
def study() -> dict[str, Any]:
    return make_study()
