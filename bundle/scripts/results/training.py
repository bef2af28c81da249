"""How the training cases are, in percentiles of at least 100 of them, against which single cases are held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from scripts.arrays import Array
from scripts.data.datalist import load_datalist
from scripts.ehr.encoding import records
from scripts.ehr.features import EHR_FEATURES, FEATURES
from scripts.results.flags import hu_numbers
from scripts.results.reference import FEWEST, mahalanobis

COMMON = 0.01
"""Share of the training records from which a code is not flagged."""

FOLDS = 5
"""Of patients: a case's distance is taken from the latents of the others."""


def describe_training(dataset_dir: str | Path, baselines: Array) -> dict[str, Any]:
    """The entry `training` of reference.json.

    Args:
        baselines: crops (N, 1, H, W) of the training section in [-1, 1].

    Returns:
        ``n``; ``percentiles``, the 1st and 99th of age, diameters, HU, spacing and interval, as far as 100 cases have
        them; ``codes``, by feature, those that 1 % of the records have.
    """
    cases = load_datalist(dataset_dir)["training"]
    known = records(cases)
    values = {name: known[:, EHR_FEATURES.index(name)] for name in EHR_FEATURES}
    numbers = {name: each for name, each in values.items() if not FEATURES[name].codes}
    spacings = [nib.load(Path(dataset_dir) / case["baseline"]).affine for case in cases]  # type: ignore[attr-defined]
    numbers["pixel_mm"] = np.array([np.linalg.norm(affine[:3, :2], axis=0).mean() for affine in spacings])
    numbers["interval_days"] = np.array([case.get("interval_days") or np.nan for case in cases], dtype=float)
    densities = [hu_numbers(crop) for crop in baselines[:, 0]]
    numbers |= {name: np.array([each[name] for each in densities]) for name in (densities[0] if densities else {})}
    percentiles = {name: interpolated(each, (1, 99)) for name, each in numbers.items()}
    codes = {name: _common(each, FEATURES[name].codes) for name, each in values.items() if FEATURES[name].codes}
    return {
        "n": len(cases),
        "percentiles": {name: each for name, each in percentiles.items() if each is not None},
        "codes": {name: each for name, each in codes.items() if each is not None},
    }


def interpolated(values: Array, percents: Sequence[float]) -> list[float] | None:
    """Percentiles between two cases each, to four digits; None where fewer than :data:`FEWEST` values are known.

    >>> interpolated(np.arange(200.0), (1, 99))
    [1.5, 197.5]
    """
    known = values[np.isfinite(values)]
    if len(known) < FEWEST:
        return None
    return [float(f"{value:.4g}") for value in np.percentile(known, percents, method="hazen")]


def describe_latents(latents: Array, patients: Sequence[str]) -> tuple[dict[str, Any], dict[str, Array]] | None:
    """The entry `latents` of reference.json and the tensors of reference.safetensors; None for too few cases.

    The covariance is shrunk (Ledoit and Wolf 2004). The 99th percentile of the distances is taken over cases that
    neither mean nor covariance saw, since those of fitted cases are too short.

    Args:
        latents: of training baselines, pooled (N, D).
        patients: N, who stay together.
    """
    from sklearn.covariance import LedoitWolf
    from sklearn.model_selection import GroupKFold

    if len(latents) < FEWEST or len(set(patients)) < FOLDS:
        return None
    distances = np.full(len(latents), np.nan)
    for seen, unseen in GroupKFold(FOLDS).split(latents, groups=np.array(patients)):
        fitted = LedoitWolf().fit(latents[seen])
        distances[unseen] = mahalanobis(latents[unseen], fitted.location_, fitted.covariance_)
    limit = interpolated(distances, (99,))
    assert limit is not None
    fitted = LedoitWolf().fit(latents)
    facts = {"n": len(latents), "numbers": latents.shape[1], "shrinkage": float(fitted.shrinkage_)}
    return {**facts, "distance_99": limit[0]}, {"mean": fitted.location_, "covariance": fitted.covariance_}


def _common(values: NDArray[np.floating], codes: Mapping[int, str]) -> list[int] | None:
    known = values[np.isfinite(values)]
    if len(known) < FEWEST:
        return None
    return [code for code in codes if (known == code).mean() >= COMMON]
