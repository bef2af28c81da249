"""FID and KID between two halves of the real images: what images have that are like the real ones."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from scripts.arrays import Array
from scripts.evaluation.statistics.metrics import cubic_kernel, estimate, frechet_distance, undefined

DIVISIONS = 20
"""Of the patients into two halves."""


def halves(
    features: Array, patients: Sequence[Hashable], divisions: int = DIVISIONS, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Distances between the images of one half of the patients and of the other, divided at random several times.

    KID is the unbiased squared maximum mean discrepancy of two independent samples (Gretton et al. 2012, Eq. 3), with
    the kernel of Binkowski et al. 2018, over pairs of different patients; its mean is about 0. FID grows as cases
    become fewer, so that it is larger here than between as many images of the same kind as there are cases.

    Args:
        features: (N, D), of real images.
        patients: N, the patient of each.
        divisions: how many.
        seed: of the divisions.

    Returns:
        ``fid`` and ``kid`` as :func:`~scripts.evaluation.statistics.metrics.estimate` has them, ``std`` over divisions.
    """
    names = np.array([str(patient) for patient in patients])
    known = np.unique(names)
    if len(known) < 4:
        return dict.fromkeys(("fid", "kid"), undefined("not defined for fewer than four patients"))
    generator = np.random.default_rng(seed)
    first = np.stack([np.isin(names, generator.permutation(known)[: len(known) // 2]) for _ in range(divisions)])
    found = {
        "fid": np.array([frechet_distance(features[half], features[~half]) for half in first]),
        "kid": _kernel_distances(features, names, first.astype(np.float64)),
    }
    return {name: estimate(values, reason="no interval, for std is over divisions") for name, values in found.items()}


def _kernel_distances(features: Array, names: Array, first: Array) -> Array:
    """KID (B,) between the cases of ``first`` (B, N), 0 or 1, and the others; NaN where a half is one patient's."""
    kernel, apart = cubic_kernel(features, features), (names[:, None] != names[None, :]).astype(np.float64)

    def mean(of: Array, to: Array) -> Array:
        with np.errstate(invalid="ignore"):
            return ((of @ (kernel * apart)) * to).sum(axis=1) / ((of @ apart) * to).sum(axis=1)

    return mean(first, first) + mean(1 - first, 1 - first) - 2 * mean(first, 1 - first)
