"""A small made-up study: nodules are discs, malignant ones grow, and the classifier measures brightness."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from scripts.evaluation.evaluator import evaluate
from scripts.evaluation.judge import Bootstrap, Judge
from scripts.evaluation.study import Cases, Study
from scripts.pictures import png

SIZE = 64
PIXEL = png(Figure((0.01, 0.01)), dpi=100)


def disc(radius: float, noise: np.random.Generator) -> np.ndarray:
    x, y = np.meshgrid(*(np.arange(SIZE) - SIZE / 2,) * 2, indexing="ij")
    image = np.where(np.hypot(x, y) < radius, 0.4, -0.8) + noise.normal(0, 0.05, (SIZE, SIZE))
    return np.clip(image, -1, 1).astype(np.float32)[None]


def classifier(images: torch.Tensor) -> torch.Tensor:
    return torch.sigmoid(20 * (images.mean(dim=(1, 2, 3)) + 0.72))


def make_study(count: int = 12, runs: int = 4, seed: int = 0) -> dict[str, Any]:
    """Arguments of `run`: two nodules a patient, every third one malignant."""
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
                "truth": {"oracle": 0.7 if malignant[index] else 0.1, "oracle_growth": float(malignant[index])},
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


def study_of(arguments: dict[str, Any]) -> Study:
    """The study in the arguments of `make_study`."""
    training = arguments.get("training")
    return Study(
        cases=Cases.of(arguments["cases"]),
        training=training and (Cases.of(training[1]), training[0]),
        **{
            key: arguments[key]
            for key in ("baseline", "follow_up", "spacing", "dataset", "simulated", "unpadded")
            if key in arguments
        },
    )


def run(arguments: dict[str, Any], output_dir: Path, drawn: bool = False, **more: Any) -> dict[str, Any]:
    """`evaluate` with its judge, of what `make_study` gives and whatever is added to it.

    Args:
        drawn: figures are what they say; otherwise each is a pixel, which takes a third of the time.
    """
    given = {**arguments, **more}
    study = study_of(given)
    bootstrap = Bootstrap(given["resamples"])
    judge = Judge(study, given["classifier"], given.get("perceptual"), given.get("features"), bootstrap)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scripts.evaluation.evaluator.command_line", lambda: given["command"])
        if not drawn:
            patch.setattr("scripts.evaluation.report.output.png", lambda figure: PIXEL)
        return evaluate(
            study,
            given["generated"] | given.get("predicted", {}),
            judge,
            output_dir,
            reconstruction=given.get("reconstruction"),
            encoders=given.get("encoders"),
            case_pages=given.get("case_pages", ()),
        )
