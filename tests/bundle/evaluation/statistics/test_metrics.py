"""Every formula against another implementation, and the properties that it must have."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from scripts.evaluation.statistics import metrics

seeds = st.integers(0, 2**32 - 1)


def scores(seed: int, runs: int = 3, count: int = 40, levels: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities with many ties, and outcomes of both kinds."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, count).astype(float)
    labels[:2] = 0, 1
    return generator.integers(0, levels, (runs, count)) / levels, labels


@settings(max_examples=10)
@given(seeds)
def test_areas_equal_sklearns_weighted_or_not(seed):
    probabilities, labels = scores(seed)
    weights = np.random.default_rng(seed + 1).integers(0, 4, (5, len(labels))).astype(float)
    weights[:, :2] = 1
    for ours, theirs in ((metrics.auroc, roc_auc_score), (metrics.auprc, average_precision_score)):
        plain = [theirs(labels, run) for run in probabilities]
        np.testing.assert_allclose(ours(probabilities, labels)[:, 0], plain, atol=1e-12)
        weighted = [[theirs(labels, run, sample_weight=row) for row in weights] for run in probabilities]
        np.testing.assert_allclose(ours(probabilities, labels, weights), weighted, atol=1e-12)


def test_areas_are_nan_where_a_resample_lacks_an_outcome():
    probabilities, labels = scores(0)
    weights = np.stack([labels, 1 - labels])
    assert np.isnan(metrics.auroc(probabilities, labels, weights)).all()
    assert np.isnan(metrics.auprc(probabilities, labels, weights[1:])).all()


def sqrtm_distance(first: np.ndarray, second: np.ndarray) -> float:
    """The textbook formula."""
    covariances = [np.cov(features, rowvar=False) for features in (first, second)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1])
    difference = first.mean(axis=0) - second.mean(axis=0)
    return float(difference @ difference + np.trace(covariances[0] + covariances[1]) - 2 * np.trace(root).real)


@settings(max_examples=20)
@given(seeds, st.integers(20, 60), st.integers(20, 60))
def test_frechet_distance_equals_scipys(seed, rows_first, rows_second):
    generator = np.random.default_rng(seed)
    mixing = generator.normal(size=(8, 8))
    first = generator.normal(size=(rows_first, 8)) @ mixing
    second = generator.normal(1.0, 2.0, size=(rows_second, 8))
    np.testing.assert_allclose(metrics.frechet_distance(first, second), sqrtm_distance(first, second), rtol=1e-8)


def test_frechet_distance_equals_torchmetrics_formula():
    torch = pytest.importorskip("torch")
    fid = pytest.importorskip("torchmetrics.image.fid")
    generator = np.random.default_rng(3)
    first, second = generator.normal(size=(50, 6)), generator.normal(0.5, 1.5, size=(40, 6))
    moments = [(torch.tensor(f.mean(axis=0)), torch.tensor(np.cov(f, rowvar=False))) for f in (first, second)]
    theirs = fid._compute_fid(*moments[0], *moments[1])
    np.testing.assert_allclose(metrics.frechet_distance(first, second), float(theirs), rtol=1e-8)


def test_frechet_distance_of_gaussians_known_in_closed_form():
    """Diagonal covariances: sum of squared differences of means and of standard deviations."""
    generator = np.random.default_rng(0)
    white = generator.normal(size=(200, 5))
    white -= white.mean(axis=0)
    white = white @ np.linalg.inv(np.linalg.cholesky(np.cov(white, rowvar=False))).T
    first, second = white * [1, 2, 3, 4, 5] + 1, white[::-1] * [2, 2, 2, 2, 2] - 1
    expected = 5 * 2.0**2 + (1 + 0 + 1 + 4 + 9)
    assert metrics.frechet_distance(first, second) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=25)
@given(seeds, st.integers(2, 12), st.integers(2, 12), st.integers(1, 30))
def test_frechet_distance_is_a_distance(seed, rows_first, rows_second, columns):
    """Also with fewer cases than features, where roots of matrices fail."""
    generator = np.random.default_rng(seed)
    first, second = generator.normal(size=(rows_first, columns)), generator.normal(size=(rows_second, columns))
    forth, back = metrics.frechet_distance(first, second), metrics.frechet_distance(second, first)
    assert forth >= 0
    np.testing.assert_allclose(forth, back, rtol=1e-9, atol=1e-9)
    assert metrics.frechet_distance(first, first) == pytest.approx(0, abs=1e-9)
    rotation = np.linalg.qr(generator.normal(size=(columns, columns)))[0]
    np.testing.assert_allclose(metrics.frechet_distance(first @ rotation, second @ rotation), forth, atol=1e-8)
    assert metrics.frechet_distance(first, first + 2) == pytest.approx(4 * columns, rel=1e-6, abs=1e-6)


def features_of(seed: int, count: int = 30, columns: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Features of generated images and of the real ones of the same cases, which are alike."""
    generator = np.random.default_rng(seed)
    real = generator.normal(0.5, 1.0, (count, columns))
    return real + generator.normal(0.2, 0.5, real.shape), real


def test_kernel_distance_equals_torchmetrics_without_the_pairs_of_a_case():
    """Its estimator, given for each k(x_i, y_i) the mean over the other pairs: then both are the same U-statistic."""
    torch, kid = pytest.importorskip("torch"), pytest.importorskip("torchmetrics.image.kid")
    first, second = (torch.from_numpy(part) for part in features_of(0))
    within = [kid.poly_kernel(part, part) for part in (first, second)]
    cross = kid.poly_kernel(first, second)
    cross.diagonal().copy_(cross[~torch.eye(30, dtype=torch.bool)].mean().expand(30))
    theirs = float(kid.maximum_mean_discrepancy(within[0], cross, within[1]))
    pairs = metrics.kernel_pairs(first.numpy(), second.numpy())
    assert metrics.kernel_distance(pairs, range(30))[0] == pytest.approx(theirs, rel=1e-9)


def test_kernel_distance_equals_the_loop_over_patients_and_resamples():
    """Every drawn case written out; pairs within a patient, and of a case with itself, are passed over."""
    first, second = features_of(1, count=7)
    patients = ["a", "a", "b", "c", "c", "c", "d"]
    weights = np.array([[1.0] * 7, [2, 2, 0, 1, 1, 1, 1], [0, 0, 3, 0, 0, 0, 1]])

    def kernel(u, v):
        return (sum(a * b for a, b in zip(u, v, strict=True)) / 5 + 1) ** 3

    expected = []
    for row in weights:
        drawn = [index for index, count in enumerate(row) for _ in range(int(count))]
        terms = [
            kernel(first[i], first[j])
            + kernel(second[i], second[j])
            - kernel(first[i], second[j])
            - kernel(first[j], second[i])
            for i in drawn
            for j in drawn
            if patients[i] != patients[j]
        ]
        expected.append(np.mean(terms))
    distances = metrics.kernel_distance(metrics.kernel_pairs(first, second), patients, weights)
    np.testing.assert_allclose(distances, expected, rtol=1e-9)


def test_kernel_distance_is_zero_on_average_where_images_of_a_case_are_alike():
    """One distribution, correlated pairs: unbiased, while torchmetrics' estimator is pulled below zero."""
    torch, kid = pytest.importorskip("torch"), pytest.importorskip("torchmetrics.image.kid")
    ours, common = [], []
    for seed in range(60):
        generator = np.random.default_rng(seed)
        first, second = generator.normal(size=(40, 8)) + 0.3 * generator.normal(size=(2, 40, 8))
        ours.append(metrics.kernel_distance(metrics.kernel_pairs(first, second), range(40))[0])
        common.append(float(kid.poly_mmd(torch.from_numpy(first), torch.from_numpy(second))))
    error = np.std(ours, ddof=1) / np.sqrt(60)
    assert abs(np.mean(ours)) < 3 * error and np.mean(common) < -10 * error
    same = metrics.kernel_pairs(first, first)
    assert metrics.kernel_distance(same, range(40))[0] == pytest.approx(0, abs=1e-12)


def test_kid_over_runs_and_patients():
    first, real = features_of(2)
    runs = np.stack([first, first + 0.1, first - 0.2])
    weights = metrics.patient_resamples(range(30), np.arange(30) % 2, 100, seed=0)
    result = metrics.kid(runs, real, range(30), weights)
    each = [metrics.kernel_distance(metrics.kernel_pairs(run, real), range(30), weights) for run in runs]
    single = [metrics.kid(run[None], real, range(30), None)["mean"] for run in runs]
    assert result["mean"] == pytest.approx(np.mean(single)) and result["std"] == pytest.approx(np.std(single, ddof=1))
    np.testing.assert_allclose(result["ci95"], np.percentile(np.mean(each, axis=0), [2.5, 97.5]))
    assert "two patients" in metrics.kid(runs, real, ["a"] * 30, None)["reason"]


def test_patients_bring_all_their_cases():
    patients, labels = ["a", "b", "b", "c", "a"], np.zeros(5)
    weights = metrics.patient_resamples(patients, labels, 200, seed=1)
    assert weights.shape == (200, 5)
    assert (weights[:, 0] == weights[:, 4]).all() and (weights[:, 1] == weights[:, 2]).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert (weights == metrics.patient_resamples(patients, labels, 200, seed=1)).all()
    assert (weights != metrics.patient_resamples(patients, labels, 200, seed=2)).any()


def test_strata_are_patients_with_and_without_a_malignant_case():
    """a and b have a malignant case, c to e have none, f and g are unknown."""
    patients = ["a", "a", "b", "c", "d", "e", "e", "f", "g"]
    labels = np.array([0, 1, 1, 0, 0, 0, np.nan, np.nan, np.nan])
    first_of = {"malignant": [0, 2], "benign": [3, 4, 5], "unknown": [7, 8]}
    weights = metrics.patient_resamples(patients, labels, 400, seed=0)
    for members in first_of.values():
        assert (weights[:, members].sum(axis=1) == len(members)).all()
        np.testing.assert_allclose(weights[:, members].mean(axis=0), 1, atol=0.2)
    plain = metrics.patient_resamples(patients, labels, 400, seed=0, stratified=False)
    assert (plain[:, [0, 2, 3, 4, 5]].sum(axis=1) == 5).all() and (plain[:, [7, 8]].sum(axis=1) == 2).all()
    assert len(np.unique(plain[:, [0, 2]].sum(axis=1))) > 2


def test_no_resamples_where_every_stratum_is_one_patient():
    for patients, labels in ((["a", "a"], [0, 1]), (["a"], [np.nan]), (["a", "b", "c"], [0, 1, np.nan])):
        assert metrics.patient_resamples(patients, np.array(labels, dtype=float), 10, seed=0) is None
    assert metrics.patient_resamples(["a", "b"], np.array([0.0, 1]), 10, seed=0, stratified=False).shape == (10, 2)


@pytest.mark.parametrize("stratified", [True, False])
def test_who_alone_has_an_outcome_takes_the_weights_whatever_else_they_have(stratified):
    """Patient 0 has both outcomes, and all cases of one of them; unknown cases do not count."""
    patients, labels = [0, 0, 1, 2, 3, 4, 4], np.array([1.0, 0, 0, 0, 0, 1, np.nan])
    for known, expected in ((labels, (40, 6)), (np.append(labels[:5], [np.nan, 1]), (40, 6)), (labels[:5], None)):
        weights = metrics.patient_resamples(patients[: len(known)], known, 40, seed=0, stratified=stratified)
        for outcomes in (known, 1 - known):
            drawn = metrics.varied(weights, outcomes)
            assert (drawn is None) if expected is None else (drawn.shape == expected)
    assert metrics.varied(None, labels) is None and metrics.several(None) is None


@pytest.mark.parametrize("single", [0.0, 1.0])
def test_one_patient_of_an_outcome_takes_intervals_from_scores_of_outcomes_alone(single):
    """Thirty patients with two cases each, one of them alone with its outcome."""
    patients, labels = np.arange(60) // 2, np.where(np.arange(60) < 2, single, 1 - single)
    rng = np.random.default_rng(0)
    weights, values = metrics.patient_resamples(patients, labels, 200, seed=0), rng.uniform(size=(2, 60))
    assert (weights[:, :2] == 1).all() and (weights[:, 2:].sum(axis=1) == 58).all()
    low, high = metrics.similarity(values, weights)["ci95"]
    assert low < values.mean() < high
    features = rng.normal(size=(2, 60, 8))
    assert metrics.kid(features[:1], features[1], patients.tolist(), weights)["ci95"] is not None
    withheld = [
        *metrics.classification(values, labels, weights).values(),
        *metrics.gap(*values, labels, weights).values(),
    ]
    assert all(score["mean"] is not None and score["ci95"] is None for score in withheld)
    assert all("too few patients" in score["reason"] for score in withheld)


def resamples_of(labels: np.ndarray, resamples: int, patients: list[int] | None = None) -> np.ndarray | None:
    return metrics.patient_resamples(patients or list(range(len(labels))), labels, resamples, seed=0)


def test_interval_holds_the_estimate_and_narrows_with_cases():
    generator = np.random.default_rng(0)
    widths = []
    for count in (60, 600):
        labels = (np.arange(count) % 3 == 0).astype(float)
        probabilities = 1 / (1 + np.exp(-generator.normal(labels, 1.0, (4, count))))
        auroc = metrics.classification(probabilities, labels, resamples_of(labels, 300))["auroc"]
        low, high = auroc["ci95"]
        assert low < auroc["mean"] < high
        widths.append(high - low)
    assert widths[1] < 0.5 * widths[0]


def test_interval_of_doubled_cases_is_that_of_the_patients():
    """Each case twice under the same patient: no new knowledge, so no narrower interval."""
    probabilities, labels = scores(5, count=60, levels=1000)
    once = metrics.classification(probabilities, labels, resamples_of(labels, 200))
    both = np.tile(labels, 2)
    weights = resamples_of(both, 200, [*range(60), *range(60)])
    twice = metrics.classification(np.tile(probabilities, 2), both, weights)
    np.testing.assert_allclose(twice["auroc"]["ci95"], once["auroc"]["ci95"])


def test_mean_and_standard_deviation_are_over_runs():
    probabilities, labels = scores(7)
    weights = resamples_of(labels, 20)
    auprc = metrics.classification(probabilities, labels, weights)["auprc"]
    runs = [average_precision_score(labels, run) for run in probabilities]
    assert auprc["mean"] == pytest.approx(np.mean(runs))
    assert auprc["std"] == pytest.approx(np.std(runs, ddof=1))
    assert metrics.classification(probabilities[:1], labels, weights)["auprc"]["std"] is None


def test_unknown_outcomes_are_left_out():
    probabilities, labels = scores(7)
    without = metrics.classification(
        probabilities[:, 5:], labels[5:], resamples_of(labels[5:], 20, list(range(15, 50)))
    )
    labels[:5] = np.nan
    weights = resamples_of(labels, 20, list(range(10, 50)))
    assert metrics.classification(probabilities, labels, weights) == without


def test_similarity_equals_a_plain_bootstrap():
    generator = np.random.default_rng(0)
    distances = generator.uniform(size=(3, 10))
    weights = resamples_of(np.zeros(10), 40)
    means = [np.repeat(distances.mean(axis=0), row.astype(int)).mean() for row in weights]
    result = metrics.similarity(distances, weights)
    assert result["mean"] == pytest.approx(distances.mean())
    np.testing.assert_allclose(result["ci95"], np.percentile(means, [2.5, 97.5]))


def test_similarity_within_one_patient_has_no_interval():
    """Of some of the cases, which are those of one patient; those of two patients have one."""
    weights = metrics.patient_resamples(np.arange(20) // 2, np.arange(20) % 4 // 2, 200, seed=0)
    values = np.random.default_rng(0).uniform(size=(2, 20))
    alone, two = (metrics.similarity(values[:, :count], weights[:, :count]) for count in (2, 4))
    assert alone["mean"] == pytest.approx(values[:, :2].mean()) and alone["ci95"] is None
    assert "too few patients" in alone["reason"]
    assert two["ci95"][0] < two["ci95"][1]


def test_what_cannot_be_computed_is_null_with_a_reason():
    probabilities = np.full((2, 4), 0.5)
    for labels, reason in (
        (np.ones(4), "all cases with a known outcome are malignant"),
        (np.zeros(4), "all cases with a known outcome are benign"),
        (np.full(4, np.nan), "no case has a known outcome"),
    ):
        for score in metrics.classification(probabilities, labels, None).values():
            assert score == {"mean": None, "std": None, "ci95": None, "reason": reason}
    one_patient = metrics.classification(probabilities, np.array([0, 1, 0, 1.0]), None)["auroc"]
    assert one_patient["mean"] == 0.5 and one_patient["ci95"] is None and "too few patients" in one_patient["reason"]
    assert metrics.similarity(np.ones((1, 1)), None)["ci95"] is None
    assert "fewer than two cases" in metrics.fid(np.ones((2, 1, 3)), np.ones((1, 3)))["reason"]


def test_an_interval_that_is_infinite_is_none() -> None:
    """NaN, of resamples without a value, are left out; JSON has no infinity."""
    found = metrics.estimate(np.ones(1), np.array([0.0, np.nan, 1.0]))
    assert found["ci95"] == pytest.approx([0.025, 0.975]) and "reason" not in found
    found = metrics.estimate(np.ones(1), np.append(np.ones(99), np.inf))
    assert found["ci95"] is None and "infinite" in found["reason"]
    assert "too few" in metrics.estimate(np.ones(1), np.full(9, np.nan))["reason"]


def test_gap_closed():
    """A share of the gap; none where the interval of the gap holds zero, or there is none."""

    def score(value, *bounds):
        return {"mean": value, "ci95": list(bounds) or None}

    shown = score(0.077, 0.02, 0.13)
    assert metrics.gap_closed(score(0.805), score(0.742), shown) == pytest.approx(0.818, abs=1e-3)  # the paper's
    assert metrics.gap_closed(score(0.7), score(0.8), score(0.1, 0.05, 0.2)) == pytest.approx(-1.0)
    assert metrics.gap_closed(score(0.7), score(0.6), score(0.1, -0.01, 0.2)) is None
    assert metrics.gap_closed(score(0.7), score(0.6), score(0.1, 0.0, 0.2)) is None
    assert metrics.gap_closed(score(0.7), score(0.6), score(-0.1, -0.2, -0.05)) is None
    assert metrics.gap_closed(score(0.7), score(0.6), score(0.1)) is None
    assert metrics.gap_closed(score(None), score(0.7), shown) is None


def test_the_gap_is_paired():
    """Mean and interval equal plain computations on the same resamples; a follow-up like the baseline has no gap."""
    rng = np.random.default_rng(0)
    labels = np.append(rng.integers(0, 2, 40).astype(float), np.nan)
    baseline, follow_up = rng.uniform(size=41), np.append(0.5 * labels[:-1] + rng.uniform(size=40), 0.5)
    weights = metrics.patient_resamples([str(index) for index in range(41)], labels, 100, 0)
    found = metrics.gap(baseline, follow_up, labels, weights)
    for name, plain in (("auroc", roc_auc_score), ("auprc", average_precision_score)):
        pairs = [(labels[:-1], each[:-1]) for each in (follow_up, baseline)]
        assert found[name]["mean"] == pytest.approx(plain(*pairs[0]) - plain(*pairs[1]))
        drawn = [np.subtract(*(plain(*pair, sample_weight=row[:-1]) for pair in pairs)) for row in weights]
        assert found[name]["ci95"] == pytest.approx(np.percentile(drawn, [2.5, 97.5]).tolist())
    assert metrics.gap(baseline, baseline, labels, weights)["auroc"]["ci95"] == [0, 0]
    assert metrics.gap(baseline, follow_up, np.zeros(41), weights)["auprc"]["reason"].endswith("benign")
