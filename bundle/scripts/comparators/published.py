"""The compared methods whose weights lie beside the others: the record alone, and the direct classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scripts.arrays import Array
from scripts.comparators.contract import Condition, ProbabilityMethod
from scripts.comparators.direct import DirectClassifier
from scripts.comparators.record import RecordOnly
from scripts.comparators.regression import RecordRegression
from scripts.diffusion.noise import CaseNoise

PUBLISHED: Mapping[str, tuple[str, Callable[[Path], ProbabilityMethod]]] = {
    "record alone": ("record_only.json", lambda path: RecordOnly(RecordRegression.read(path))),
    "direct classifier": ("direct_classifier.safetensors", DirectClassifier.load),
}
"""Title of a method to its file in a folder of weights, and what opens it."""


def published(models_dir: str | Path) -> dict[str, ProbabilityMethod]:
    """By title, those of :data:`PUBLISHED` that a folder of weights has.

    Raises:
        UserError: a file is damaged.
    """
    folder = Path(models_dir)
    return {title: open_it(folder / file) for title, (file, open_it) in PUBLISHED.items() if (folder / file).is_file()}


def probabilities(method: ProbabilityMethod, baselines: Array, cases: Sequence[Mapping[str, Any]]) -> Array:
    """A method's probabilities (1, N) of cases of a datalist, as one run.

    Args:
        baselines: crops (N, 1, H, W) in [-1, 1].
        cases: N entries of the datalist.
    """
    crops = torch.from_numpy(np.ascontiguousarray(baselines, dtype=np.float32))
    given = method.probability(crops, [Condition.of(case) for case in cases], CaseNoise(crops, seed=0))
    return given.double().cpu().numpy()[None]
