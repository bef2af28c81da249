"""What images add: nested models against scikit-learn, on outcomes of which it is known what they depend on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import chi2
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from scripts.ehr.encoding import records
from scripts.evaluation.statistics.added_value import added_by_images, likelihood_ratio, out_of_fold, record_score
from scripts.evaluation.statistics.folds import patient_folds
from scripts.evaluation.statistics.metrics import patient_resamples

COUNT = 160


@pytest.fixture(scope="module")
def cohort() -> dict[str, Any]:
    """Age, and two scores, on which the outcome depends alike."""
    rng = np.random.default_rng(0)
    age, baseline, generated = rng.normal(size=(3, COUNT))
    labels = (rng.uniform(size=COUNT) < expit(-0.5 + age + baseline + generated)).astype(float)
    ehr = [{"ehr": {"age": 60 + 5 * each, "gender": 1}} for each in age]
    return {
        "records": records(ehr),
        "baseline": expit(baseline),
        "generated": expit(generated),
        "noise": expit(rng.normal(size=COUNT)),
        "labels": labels,
        "patients": [f"p{index // 2}" for index in range(COUNT)],
        "age": age,
    }


def added(cohort: dict[str, Any], second: str, **changes: Any) -> dict[str, Any]:
    given = cohort | changes
    patients, labels = given["patients"], given["labels"]
    weights = tuple(patient_resamples(patients, labels, 200, 0, stratified=each) for each in (True, False))
    scores = [given["baseline"], given[second]]
    return added_by_images(given["records"], scores, labels, patients, weights, given.get("record"))


def test_what_adds_is_shown_and_what_does_not_is_not(cohort: dict[str, Any]) -> None:
    found, noise = added(cohort, "generated"), added(cohort, "noise")
    assert found["shown"] and found["likelihood_ratio"]["p"] < 1e-4 and found["auroc_difference"]["ci95"][0] > 0
    assert found["net_benefit_difference"]["0.3"]["mean"] > 0
    low, high = noise["auroc_difference"]["ci95"]
    assert not noise["shown"] and low <= 0 <= high
    for each in (found, noise):
        smaller, larger = (each["auroc"][name]["mean"] for name in ("record_and_baseline", "with_generated"))
        assert each["auroc_difference"]["mean"] == pytest.approx(larger - smaller)


def test_the_likelihood_ratio_is_that_of_two_plain_fits(cohort: dict[str, Any]) -> None:
    first, second = (logit(cohort[name]) for name in ("baseline", "generated"))
    labels, ones = cohort["labels"], np.ones(COUNT)
    levels = []
    for columns in ([first], [first, second]):
        fit = LogisticRegression(C=np.inf, tol=1e-12).fit(np.stack(columns, axis=1), labels)
        levels.append(-log_loss(labels, fit.predict_proba(np.stack(columns, axis=1)), normalize=False))
    found = likelihood_ratio(np.stack([ones, first], axis=1), np.stack([ones, first, second], axis=1), labels)
    statistic = 2 * (levels[1] - levels[0])
    assert found["chi2"] == pytest.approx(statistic, rel=1e-6) and found["df"] == 1
    assert found["p"] == pytest.approx(chi2.sf(statistic, 1), rel=1e-4)


def test_a_record_from_elsewhere_is_taken_as_it_is(cohort: dict[str, Any]) -> None:
    """Out of fold, the models are then regressions on two and three columns."""
    labels, patients, elsewhere = cohort["labels"], cohort["patients"], cohort["age"]
    scores = [logit(cohort[name]) for name in ("baseline", "generated")]
    found = out_of_fold(cohort["records"], scores, labels, patients, elsewhere)
    fold = patient_folds(patients, labels)
    for values, columns in zip(found, ([elsewhere, scores[0]], [elsewhere, *scores]), strict=True):
        design = np.stack(columns, axis=1)
        for number in np.unique(fold):
            held = fold == number
            fit = LogisticRegression(C=np.inf, tol=1e-10).fit(design[~held], labels[~held])
            np.testing.assert_allclose(values[held], fit.predict_proba(design[held])[:, 1], atol=1e-5)
    given = added(cohort, "generated", record=expit(elsewhere))
    assert given["auroc"]["with_generated"]["mean"] == pytest.approx(roc_auc_score(labels, found[1]))


def test_no_case_is_judged_by_a_model_that_saw_its_patient(
    cohort: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outcomes that are turned round in one fold change none of its probabilities, and all of the others'."""

    def by_name(patients: list[str], labels: np.ndarray) -> np.ndarray:
        return np.array([int(patient[1:]) % 5 for patient in patients])

    monkeypatch.setattr("scripts.evaluation.statistics.added_value.patient_folds", by_name)
    labels, patients = cohort["labels"], cohort["patients"]
    held = by_name(patients, labels) == 0
    scores = [logit(cohort[name]) for name in ("baseline", "generated")]
    both = [
        np.stack(out_of_fold(cohort["records"], scores, each, patients))
        for each in (labels, np.where(held, 1 - labels, labels))
    ]
    np.testing.assert_array_equal(both[0][:, held], both[1][:, held])
    assert (both[0][:, ~held] != both[1][:, ~held]).all()
    assert roc_auc_score(labels, record_score(cohort["records"], labels, patients)) > 0.6


def test_few_patients_are_not_modelled(cohort: dict[str, Any]) -> None:
    labels = np.where(np.arange(COUNT) < 18, 1.0, 0.0)
    assert "fewer than 10 patients" in added(cohort, "generated", labels=labels)["reason"]
    assert "here 9" in added(cohort, "generated", labels=labels)["reason"]
