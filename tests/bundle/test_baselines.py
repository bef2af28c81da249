"""The comparisons that make no image: against scikit-learn by hand, as users run them, and what goes wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold

import scripts.comparators as baselines
from scripts.comparators.record import STRENGTHS
from scripts.data.transforms import preprocessing
from scripts.ehr.encoding import records
from scripts.ehr.features import EHR_FEATURES, FEATURES
from scripts.errors import UserError
from scripts.networks.classifiers import ViTClassifier

CONFIGS = Path(__file__).resolve().parents[2] / "bundle" / "configs"
GAPS = ("sct_perp_dia", "sct_margins", "age", "diagemph")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80, 20 and 20 cases, two a patient; the outcome follows diameter and margins, some features have gaps."""
    folder, noise = tmp_path_factory.mktemp("cohort"), np.random.default_rng(0)

    def case(index: int) -> dict[str, Any]:
        ehr: dict[str, Any] = {
            name: int(noise.choice(list(feature.codes) or [0])) for name, feature in FEATURES.items()
        }
        ehr |= {"sct_long_dia": float(noise.uniform(4, 25)), "age": int(noise.integers(55, 75))}
        ehr["sct_perp_dia"] = 0.8 * ehr["sct_long_dia"]
        risk = np.log(ehr["sct_long_dia"] / 10) + (ehr["sct_margins"] == 1) - 0.5 + noise.normal()
        ehr |= {name: None for name in GAPS if noise.random() < 0.2}
        malignant = None if index % 9 == 8 else int(risk > 0)
        return {"case_id": f"c{index}", "patient_id": f"p{index // 2}", "ehr": ehr, "malignant": malignant}

    cases = [case(index) for index in range(120)]
    sections = {"training": cases[:80], "validation": cases[80:100], "test": cases[100:]}
    (folder / "datalist.json").write_text(json.dumps({"name": "made up", "simulated": True, **sections}))
    return folder


@pytest.fixture(scope="module")
def regression(cohort: Path) -> GridSearchCV:
    return baselines.record_regression(cohort)


def by_hand(cases: list[dict[str, Any]], fitted: list[dict[str, Any]]) -> np.ndarray:
    """What a record is as numbers, written out with pandas."""
    frame, known = (pd.DataFrame([case["ehr"] for case in part])[list(EHR_FEATURES)] for part in (cases, fitted))
    columns = []
    for name in ("sct_long_dia", "sct_perp_dia", "age"):
        scale = np.log if name != "age" else np.asarray
        values, reference = (scale(part[name].to_numpy(dtype=float)) for part in (frame, known))
        median = np.nanmedian(reference)
        filled = np.where(np.isnan(reference), median, reference)
        columns.append((np.where(np.isnan(values), median, values) - filled.mean()) / filled.std())
        if np.isnan(reference).any():
            gaps = np.isnan(reference)
            columns.append((np.isnan(values) - gaps.mean()) / gaps.std())
    for name, feature in FEATURES.items():
        columns += [(frame[name] == code).to_numpy(dtype=float) for code in feature.codes]
        columns += [frame[name].isna().to_numpy(dtype=float)] if feature.codes else []
    return np.stack(columns, axis=1)


def test_regression_equals_scikit_learn_by_hand(cohort: Path, regression: GridSearchCV) -> None:
    """The chosen penalty by a loop over folds of patients, and the probabilities of cases never seen."""
    datalist = json.loads((cohort / "datalist.json").read_text())
    known = [case for case in datalist["training"] if case["malignant"] is not None]
    labels, patients = np.array([case["malignant"] for case in known]), [case["patient_id"] for case in known]
    losses = np.zeros(len(STRENGTHS))
    for seen, unseen in StratifiedGroupKFold(5, shuffle=True, random_state=0).split(known, labels, patients):
        assert not {patients[i] for i in seen} & {patients[i] for i in unseen}
        fitted = [known[i] for i in seen]
        x, y = by_hand(fitted, fitted), by_hand([known[i] for i in unseen], fitted)
        for index, strength in enumerate(STRENGTHS):
            fit = LogisticRegression(C=strength, max_iter=1000).fit(x, labels[seen])
            losses[index] += log_loss(labels[unseen], fit.predict_proba(y)[:, 1], labels=[0, 1]) / 5
    best = STRENGTHS[losses.argmin()]
    assert regression.best_params_ == {"regression__C": best}
    assert -regression.best_score_ == pytest.approx(losses.min(), rel=1e-4)
    assert STRENGTHS[0] < best < STRENGTHS[-1]
    plain = LogisticRegression(C=best, max_iter=1000).fit(by_hand(known, known), labels)
    expected = plain.predict_proba(by_hand(datalist["test"], known))[:, 1]
    found = regression.predict_proba(records(datalist["test"]))[:, 1]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_record_only_from_the_command_line(
    cohort: Path, regression: GridSearchCV, tmp_path: Path, monai: Callable[..., None]
) -> None:
    files = ("--config_file", CONFIGS / "record_only.yaml", "--dataset_dir", cohort, "--output_dir", tmp_path)
    monai("run", *files)
    table = pd.read_csv(tmp_path / "baselines" / "record_only.csv")
    assert list(table) == ["case_id", "run", "probability"] and list(table.case_id) == [f"c{i}" for i in range(80, 120)]
    cases = json.loads((cohort / "datalist.json").read_text())["test"]
    probabilities = baselines.read_table(
        tmp_path / "baselines" / "record_only.csv", [case["case_id"] for case in cases]
    )
    expected = regression.predict_proba(records(cases))[:, 1]
    np.testing.assert_allclose(probabilities, expected[None], rtol=1e-5)


def test_too_few_patients_are_named(cohort: Path, tmp_path: Path) -> None:
    datalist = json.loads((cohort / "datalist.json").read_text())
    for case in datalist["training"]:
        case["malignant"] = int(case["patient_id"] == "p0")  # two cases, one patient
    (tmp_path / "datalist.json").write_text(json.dumps(datalist))
    with pytest.raises(UserError, match="fewer than two patients with a malignant"):
        baselines.record_regression(tmp_path)


# --- the direct classifier


def test_it_begins_as_the_regression_and_adds_what_the_judge_would_read(cohort: Path, regression: GridSearchCV) -> None:
    torch.manual_seed(0)
    judge = ViTClassifier(32, hidden_size=16, num_layers=1, mlp_dim=16, num_heads=2).eval()
    head, crops = judge.head, torch.rand(3, 1, 32, 32)
    judged = judge(crops).detach()
    direct = baselines.DirectClassifier(judge, regression).eval()
    cases = json.loads((cohort / "datalist.json").read_text())["test"][:3]
    values = records(cases)
    record = torch.from_numpy(regression.best_estimator_["record"].transform(values)).float()
    alone = torch.from_numpy(regression.decision_function(values)).float()[:, None]
    with torch.no_grad():
        torch.testing.assert_close(direct(crops, record), alone)
        direct.head.weight[:, :16] = head.weight
        torch.testing.assert_close(direct(crops, record), alone + judged - head.bias)


@pytest.fixture(scope="module")
def direct(make_workflow: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The output folder of two runs on the tiny dataset, and the second's workflow."""
    folder = tmp_path_factory.mktemp("direct")
    for seed in (5, 4):
        workflow = make_workflow("train_classifier", folder, "small", "direct_classifier", seed=seed)
        workflow.run()
    return folder, workflow


def test_direct_classifier_leaves_a_table_of_runs(direct: tuple[Path, Any], tiny_dataset: Path) -> None:
    folder, workflow = direct
    table = pd.read_csv(folder / "baselines" / "direct_classifier.csv")
    cases = [f"patient-{index}_n1" for index in range(6, 12)]
    assert list(zip(table.run, table.case_id, strict=True)) == [(run, case) for run in (4, 5) for case in cases]
    assert not (folder / "models").exists(), "the judge's weights are another's"

    network, fitted = (workflow.parser.get_parsed_content(key) for key in ("network_def", "regression"))
    state = torch.load(folder / "baselines" / "direct_classifier_4" / "best.pt", weights_only=True)["network"]
    network.load_state_dict(state)
    item = next(i for i in baselines.direct_items(tiny_dataset, ["test"], fitted) if i["case_id"] == "patient-9_n1")
    crop = preprocessing(["image"], 32)({"image": item["image"]})["image"].as_tensor()
    assert item["image"].endswith("9_t0.nii.gz"), "the baseline"
    with torch.no_grad():
        probability = network.eval()(crop[None], torch.from_numpy(item["record"])[None]).sigmoid().item()
    assert baselines.read_table(folder / "baselines" / "direct_classifier.csv", ["patient-9_n1"])[
        0, 0
    ] == pytest.approx(probability, rel=1e-4)


def test_a_finished_run_is_not_trained_again(direct: tuple[Path, Any], make_workflow: Callable[..., Any]) -> None:
    folder, _ = direct
    table = folder / "baselines" / "direct_classifier.csv"
    before = table.read_text()
    again = make_workflow("train_classifier", folder, "small", "direct_classifier", seed=5)
    again.run()
    assert table.read_text() == before and again.trainer.state.iteration == 6


# --- tables


def test_runs_are_added_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "table.csv"
    for run, values in ((7, [0.1, 0.2]), (3, [0.3, 0.4]), (7, [0.5, 0.6])):
        baselines.write_table(path, run, ["010", "b"], values)
    np.testing.assert_array_equal(baselines.read_table(path, ["b", "010"]), [[0.4, 0.3], [0.6, 0.5]])
    np.testing.assert_array_equal(baselines.read_table(path, ["010"]), [[0.3], [0.5]])
    assert [child.name for child in path.parent.iterdir()] == ["table.csv"], "nothing partial stays"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (None, "no such table"),
        ("case_id,probability\na,0.5\nb,0.5\n", "no column run"),
        ("case_id,run,probability\na,0,0.5\n", "run 0 has no probability for 1 of 2 cases: b"),
        ("case_id,run,probability\na,0,0.5\nb,0,0.5\na,1,0.5\n", "run 1 has no probability for 1 of 2 cases: b"),
        ("case_id,run,probability\na,0,0.5\na,0,0.5\nb,0,0.5\n", "a stand twice"),
        ("case_id,run,probability\na,0,1.5\nb,0,0.5\n", "those of a are none"),
        ("case_id,run,probability\na,0,\nb,0,0.5\n", "those of a are none"),
        ("case_id,run,probability\na,0,high\nb,0,0.5\n", "cannot be read"),
        ("case_id,run,probability\n", "no probability for any case"),
        ("", "cannot be read"),
    ],
)
def test_faults_of_a_table_are_named(tmp_path: Path, rows: str | None, message: str) -> None:
    path = tmp_path / "table.csv"
    if rows is not None:
        path.write_text(rows)
    with pytest.raises(UserError, match=message) as caught:
        baselines.read_table(path, ["a", "b"])
    assert str(path) in str(caught.value)
