"""What a site asks: each part stands in the result, of the right cases, methods and resamples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from scripts.evaluation import clinical as module
from scripts.evaluation.clinical import FITTED_HERE, NO_IMAGES, clinical_scores
from scripts.evaluation.judge import Bootstrap, Judge
from scripts.evaluation.report.columns import ENSEMBLE
from tests.bundle.evaluation.studies import make_study, study_of


@pytest.fixture(scope="module")
def judge(distance: Any) -> Judge:
    spacing = {"baseline": np.full((24, 2), [0.5, 0.7]), "follow_up": np.ones((24, 2))}
    study = make_study(count=24) | {"spacing": spacing}
    return Judge(study_of(study), study["classifier"], distance, bootstrap=Bootstrap(40))


def probabilities(*names: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.uniform(size=24) for name in ("real_baseline", *names)}


def test_every_method_gets_every_part(judge: Judge) -> None:
    given = probabilities(f"NAMD{ENSEMBLE}", "table")
    found = clinical_scores(judge, given, "NAMD", {"NAMD": {"youden": 0.4}, "table": "no table of validation"})
    labels = judge.study.cases.labels
    assert found["recalibration"].keys() == given.keys() == found["decision_curves"]["differences"].keys()
    for name, values in given.items():
        brier = found["recalibration"][name]["as_given"]["brier"]["mean"]
        assert brier == pytest.approx(brier_score_loss(labels, values))
    assert "table" in found["decision_curves"]["differences"][f"NAMD{ENSEMBLE}"], "NAMD is held against all"
    assert found["operating_points"].keys() == {f"NAMD{ENSEMBLE}", "table"}
    called = given[f"NAMD{ENSEMBLE}"] >= 0.4
    point = found["operating_points"][f"NAMD{ENSEMBLE}"]["youden"]
    assert point["sensitivity"]["mean"] == pytest.approx(called[labels == 1].mean())
    assert found["operating_points"]["table"] == {"reason": "no table of validation"}
    assert found["subgroups"]["spacing"]["0.6 to 0.75 mm"]["n_cases"] == 24, "the larger of the two spacings"
    assert found["events_warning"].startswith("8 cases are known to be malignant and 16 to be benign")
    assert "fewer than 10 patients" in found["added_value"]["reason"]


def test_the_record_speaks_by_its_table_where_there_is_one(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    """One made by the regression on the record alone, whatever its title; else by a fit on these cases."""
    asked: list[Any] = []
    monkeypatch.setattr(module, "added_by_images", lambda *given: asked.append(given) or {"shown": False})
    given = probabilities("NAMD", "mine", "direct")
    tables = {"direct": {"method": "DirectClassifier"}, "mine": {"method": "RecordOnly"}}
    found = clinical_scores(judge, given, "NAMD", {}, {"tables": tables})
    assert found["added_value"] == {"record": "mine", "shown": False}
    records, scores, labels, patients, _, record = asked.pop()
    assert records.shape == (24, 13) and np.isfinite(records[:, 2]).all()
    assert scores[0] is given["real_baseline"] and scores[1] is given["NAMD"] and record is given["mine"]
    assert len(patients) == 24 and labels is judge.study.cases.labels
    found = clinical_scores(judge, given, "NAMD", {}, {"published": tables})
    assert found["added_value"]["record"] == "mine" and asked.pop()[-1] is given["mine"]
    found = clinical_scores(judge, given, "NAMD", {}, {"tables": {"direct": tables["direct"]}})
    assert found["added_value"]["record"] == FITTED_HERE and asked.pop()[-1] is None


@pytest.mark.parametrize("single", [0, 1])
def test_scores_that_rest_on_one_patient_have_no_interval(distance: Any, single: int) -> None:
    """Two cases of twelve patients each, of whom one alone has an outcome; what rests on the others has intervals."""
    study = make_study(count=24)
    for index, case in enumerate(study["cases"]):
        case["malignant"] = single if index < 2 else 1 - single
    judge = Judge(study_of(study), study["classifier"], distance, bootstrap=Bootstrap(200))
    given = probabilities("table")
    found = clinical_scores(judge, given, None, {"table": {"given": 0.5}})
    of_one, of_others = ("sensitivity", "specificity") if single else ("specificity", "sensitivity")
    point = found["operating_points"]["table"]["given"]
    assert point[of_others]["ci95"] is not None
    withheld = [
        point[of_one],
        *found["decision_curves"]["differences"]["table"]["treat_all"].values(),
        *judge.statistics("table", given, ["real_baseline"])["auroc_difference"].values(),
    ]
    calibration = judge.statistics("table", given, [])["calibration"]
    withheld += [calibration[name] for name in ("brier", "slope", "intercept")]
    assert all(each["mean"] is not None and each["ci95"] is None for each in withheld)
    assert all("too few patients" in each["reason"] for each in withheld)


def test_without_images_nothing_is_added(judge: Judge) -> None:
    found = clinical_scores(judge, probabilities("table"), None, {})
    assert found["added_value"] == {"reason": NO_IMAGES}
    assert found["decision_curves"]["differences"]["table"].keys() == {"treat_all", "treat_none"}
