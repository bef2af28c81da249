"""The judge: in batches as at once, its parts against plain computations, and which methods are held against which."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from scripts.evaluation.judge import REAL, Bootstrap, Judge, Method, ensembles, one_probability_per_case, score_methods
from tests.bundle.evaluation.studies import make_study, study_of


@pytest.fixture
def judges(study, distance):
    """One that takes all crops at once, and one that takes five at a time."""
    options = {"perceptual": distance, "bootstrap": Bootstrap(20)}
    return [Judge(study_of(study), study["classifier"], **options, batch_size=size) for size in (64, 5)]


def test_batches_change_nothing(study, judges):
    runs = study["generated"]["NAMD"][:2]
    for at_once, in_batches in (
        [judge.distances(runs) for judge in judges],
        [judge.classify(runs, "NAMD") for judge in judges],
        [judge.real_features for judge in judges],
        [judge.encode(lambda x: x[:, :, ::8, ::8], runs[0]) for judge in judges],
    ):
        np.testing.assert_allclose(in_batches, at_once, rtol=1e-4, atol=1e-6)


def test_distances_are_of_each_run_to_its_own_follow_up(study, judges, distance):
    runs = study["generated"]["NAMD"][:2]
    found = judges[0].distances(runs)
    assert found.shape == (2, 12)
    for run, case in ((0, 0), (1, 7)):
        pair = (torch.from_numpy(images[[case]]) for images in (runs[run], study["follow_up"]))
        assert found[run, case] == pytest.approx(distance(*pair).item(), rel=1e-4)


def test_runs_are_averaged_before_they_are_judged():
    rng = np.random.default_rng(0)
    methods = {
        "several": Method(rng.uniform(size=(3, 6))),
        "one": Method(rng.uniform(size=(1, 6))),
        "copy_baseline": Method(rng.uniform(size=(1, 6))),
    }
    averaged = ensembles(methods)
    assert list(averaged) == ["several_mean_probability"]
    single = one_probability_per_case(methods | averaged)
    assert list(single) == ["one", "several_mean_probability"]
    np.testing.assert_allclose(single["several_mean_probability"], methods["several"].probabilities.mean(axis=0))


def test_rows_hold_what_can_be_said_of_them(study, judges):
    """No distance of real images, none of a table; the main method is held against all, others against the real."""
    labels = [case["malignant"] for case in study["cases"]]
    rng = np.random.default_rng(1)
    methods = {name: Method(rng.uniform(size=(1, 12)), study["baseline"][None]) for name in REAL}
    methods |= {
        "main": Method(
            rng.uniform(size=(1, 12)), study["follow_up"][None], judges[0].distances(study["follow_up"][None])
        ),
        "table": Method(rng.uniform(size=(1, 12))),
    }
    result = score_methods(methods, judges[0], "main")
    rows = result["methods"]
    assert rows["main"]["lpips"]["mean"] == pytest.approx(0, abs=1e-6)
    assert rows["real_baseline"]["lpips"]["reason"] == "not given for real images"
    assert rows["table"]["fid"]["reason"] == "not given where no image is made"
    for name, others in (
        ("main", [*REAL, "table"]),
        ("table", list(REAL)),
        ("real_follow_up", ["real_baseline"]),
        ("real_baseline", []),
    ):
        assert sorted(rows[name]["auroc_difference"]) == sorted(others)
        for other in others:
            areas = [roc_auc_score(labels, methods[each].probabilities[0]) for each in (name, other)]
            assert rows[name]["auroc_difference"][other]["mean"] == pytest.approx(areas[0] - areas[1])
    assert result["gap_closed"] == rows["main"]["gap_closed"] and "gap_closed" not in rows["real_baseline"]
    assert score_methods(methods, judges[0], None)["gap_closed"] == {"auroc": None, "auprc": None}


def test_padding_of_the_follow_up_is_no_distance(distance):
    """Whatever a method makes there; and the mean is taken over the rest, a half of the first case."""
    study = make_study(count=4, runs=1)
    unpadded = np.ones_like(study["follow_up"], dtype=bool)
    unpadded[0, :, :, 32:] = False
    judge = Judge(study_of({**study, "unpadded": unpadded}), study["classifier"], distance, bootstrap=Bootstrap(20))
    plain = Judge(study_of(study), study["classifier"], distance, bootstrap=Bootstrap(20))
    runs = study["generated"]["NAMD"]
    spoilt = np.where(unpadded, runs, -runs)
    np.testing.assert_array_equal(judge.distances(runs), judge.distances(spoilt))
    np.testing.assert_array_equal(judge.distances(runs)[:, 1:], plain.distances(runs)[:, 1:])
    half = np.where(unpadded, runs, study["follow_up"])
    np.testing.assert_allclose(judge.distances(runs)[:, 0], 2 * plain.distances(half)[:, 0], rtol=1e-6)
