"""What is said of a latent space: ranks against SciPy's, the read-out against scikit-learn's, and where nothing is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score

from scripts.ehr.encoding import attributes
from scripts.evaluation.nodules.latents import PENALTIES, Nodules, averaged, latent_scores
from scripts.evaluation.statistics.metrics import patient_resamples
from scripts.evaluation.study import Cases


def nodules(count: int, seed: int = 0, noise: float = 0.3) -> Nodules:
    """Whose latents know the diameter, and of which the last has no record."""
    generator = np.random.default_rng(seed)
    diameters = generator.uniform(4, 25, count)
    records = [{"sct_long_dia": value, "sct_margins": 1 + i % 2} for i, value in enumerate(diameters)]
    records[-1] = {}
    cases = [{"case_id": str(i), "patient_id": str(i), "ehr": record} for i, record in enumerate(records)]
    signal = np.log(diameters)[:, None, None, None] * np.array([1.0, -1, 0, 0.5])[:, None, None]
    latents = signal + noise * generator.normal(size=(count, 4, 3, 3))
    return Nodules(latents, Cases.of(cases))


def test_scores_are_plain_computations_on_unseen_cases() -> None:
    unseen, training = nodules(30), nodules(60, seed=1)
    patients = [f"p{index // 2}" for index in range(30)]
    weights = patient_resamples(patients, np.arange(30) % 2.0, resamples=40, seed=0, stratified=False)
    scores = latent_scores(unseen, training, weights)
    points = np.array(
        [attributes({"sct_long_dia": d, "sct_margins": 1 + i % 2}) for i, d in enumerate(unseen.diameters[:-1])]
    )
    expected = spearmanr(pdist(unseen.latents[:-1].mean(axis=(2, 3))), pdist(points)).statistic
    assert scores["distance_correlation"]["mean"] == pytest.approx(expected)
    model = RidgeCV(PENALTIES).fit(training.latents[:-1].reshape(59, -1), np.log(training.diameters[:-1]))
    read = model.predict(unseen.latents[:-1].reshape(29, -1))
    assert scores["diameter_r2"]["mean"] == pytest.approx(r2_score(np.log(unseen.diameters[:-1]), read))
    resampled = [r2_score(np.log(unseen.diameters[:-1]), read, sample_weight=row[:-1]) for row in weights]
    np.testing.assert_allclose(scores["diameter_r2"]["ci95"], np.percentile(resampled, [2.5, 97.5]))
    for score in scores.values():
        assert score["ci95"][0] < score["mean"] < score["ci95"][1]


def test_latents_without_the_attributes_score_nothing() -> None:
    unseen, training = (nodules(60, seed, noise=30.0) for seed in (2, 3))
    scores = latent_scores(unseen, training, None)
    assert abs(scores["distance_correlation"]["mean"]) < 0.2 and scores["diameter_r2"]["mean"] < 0.1
    assert latent_scores(nodules(60), nodules(60, 1), None)["distance_correlation"]["mean"] > 0.7


def test_what_cannot_be_said_has_a_reason() -> None:
    few, training = nodules(5), nodules(60)
    assert "fewer than 10" in latent_scores(few, training, None)["diameter_r2"]["reason"]
    assert "fewer than 10" in latent_scores(few, None, None)["distance_correlation"]["reason"]
    assert "no training cases" in latent_scores(training, None, None)["diameter_r2"]["reason"]
    same = Nodules(np.zeros((60, 4, 2, 2)), training.cases)
    assert "all distances" in latent_scores(same, None, None)["distance_correlation"]["reason"]
    assert averaged(np.ones((3, 4))).shape == (3, 4)
