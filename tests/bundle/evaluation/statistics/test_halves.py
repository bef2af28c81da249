"""Distances between halves of the real images, against another implementation, and where there is no difference."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.evaluation.statistics.halves import DIVISIONS, halves
from scripts.evaluation.statistics.metrics import frechet_distance


def drawn(cases: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(cases, 6))


def test_one_division_equals_torchmetrics() -> None:
    """Of one case a patient, and as many in either half, which it takes for granted."""
    torch, kid = pytest.importorskip("torch"), pytest.importorskip("torchmetrics.image.kid")
    features, patients = drawn(20), [f"{number:02d}" for number in range(20)]
    order = np.random.default_rng(5).permutation(patients)
    of_first = np.isin(patients, order[:10])
    first, second = features[of_first], features[~of_first]
    found = halves(features, patients, divisions=1, seed=5)
    theirs = float(kid.poly_mmd(torch.from_numpy(first), torch.from_numpy(second)))
    assert found["kid"]["mean"] == pytest.approx(theirs, rel=1e-9)
    assert found["fid"]["mean"] == pytest.approx(frechet_distance(first, second), rel=1e-12)
    assert found["fid"]["std"] is None and found["fid"]["ci95"] is None and "over divisions" in found["fid"]["reason"]


def test_images_that_are_alike_have_no_kernel_distance_and_a_frechet_distance_that_falls_with_their_number() -> None:
    kids = [halves(drawn(40, seed), range(40))["kid"]["mean"] for seed in range(40)]
    assert abs(np.mean(kids)) < 3 * np.std(kids, ddof=1) / np.sqrt(len(kids))
    few, many = (halves(drawn(cases), range(cases))["fid"] for cases in (24, 400))
    assert few["mean"] > 3 * many["mean"] > 0 and few["std"] > 0


def test_all_images_of_a_patient_are_in_one_half() -> None:
    """Each image twice: over pairs of different patients the distance is what it is of each once."""
    features, patients = drawn(20), [f"{number:02d}" for number in range(20)]
    once, twice = halves(features, patients), halves(np.repeat(features, 2, axis=0), np.repeat(patients, 2).tolist())
    assert twice["kid"]["mean"] == pytest.approx(once["kid"]["mean"], rel=1e-9)
    assert twice["kid"]["std"] == pytest.approx(once["kid"]["std"], rel=1e-9)


def test_the_same_seed_gives_the_same_and_few_patients_give_a_reason() -> None:
    features = drawn(12)
    assert halves(features, range(12)) == halves(features, range(12), DIVISIONS, seed=0)
    assert halves(features, range(12)) != halves(features, range(12), seed=1)
    for score in halves(features, [0, 1, 2] * 4).values():
        assert score["mean"] is None and "four patients" in score["reason"]
