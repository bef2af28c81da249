"""The study of the record's effect: interventions, and a made-up model whose effect is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from scripts.ehr.report import radiology_report
from scripts.errors import UserError
from scripts.evaluation.steering import (
    BLANK,
    CHANGES,
    RECORDED,
    SHUFFLED,
    Generated,
    conditions,
    steer,
    strangers_of,
    summarise,
)
from scripts.evaluation.study import Cases


def case(index: int, patient: int, **values: Any) -> dict[str, Any]:
    ehr = {"sct_long_dia": 6.0 + index, "sct_perp_dia": 5.0, "age": 60 + index, "sct_margins": 1 + index % 3, **values}
    return {
        "case_id": f"c{index}",
        "patient_id": f"p{patient}",
        "ehr": ehr,
        "interval_days": 365,
        "malignant": index % 2,
    }


@given(st.lists(st.integers(0, 5), min_size=2, max_size=30), st.integers(0, 3))
def test_every_case_gets_a_strangers_record_and_every_record_serves_once(groups: list[int], seed: int) -> None:
    patients = [str(group) for group in groups]
    if 2 * max(patients.count(patient) for patient in patients) > len(patients):
        with pytest.raises(UserError, match="needs more patients"):
            strangers_of(patients, seed)
        return
    strangers = strangers_of(patients, seed)
    assert sorted(strangers) == list(range(len(patients)))
    assert all(patients[own] != patients[other] for own, other in enumerate(strangers))


def test_interventions_change_what_they_say_and_nothing_else() -> None:
    cases = [case(index, index) for index in range(4)] + [case(4, 4, sct_long_dia=None, sct_perp_dia=290.0)]
    made = conditions(cases)
    own = [radiology_report(each["ehr"], 365) for each in cases]
    assert list(made) == [RECORDED, SHUFFLED, BLANK, *CHANGES]
    assert made[RECORDED] == own and sorted(made[SHUFFLED], key=str) == sorted(own) and made[SHUFFLED] != own
    assert made[BLANK] == [None] * 5
    larger = {**cases[1]["ehr"], "sct_long_dia": 10.5, "sct_perp_dia": 7.5}
    assert made["diameters x 1.5"][1] == radiology_report(larger, 365)
    assert made["diameters x 1.5"][4] == radiology_report({**cases[4]["ehr"], "sct_perp_dia": 300.0}, 365), (
        "within the limits"
    )
    assert made["margins spiculated"][2] == radiology_report({**cases[2]["ehr"], "sct_margins": 1}, 365)
    assert made["age 74"][0] == radiology_report({**cases[0]["ehr"], "age": 74}, 365)


def test_effects_are_what_was_put_in() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 40)
    cases = Cases.of([{**case(index, index // 2), "malignant": int(label)} for index, label in enumerate(labels)])
    images = rng.uniform(-0.5, 0.5, (40, 3, 8, 8))
    probabilities = rng.uniform(0.2, 0.7, (40, 3))
    results = {
        RECORDED: Generated(images, probabilities),
        "nothing": Generated(images, probabilities),
        "brighter": Generated(images + 0.1, probabilities + 0.25),
        "knows": Generated(images, np.where(labels[:, None] == 1, 0.9, 0.1).repeat(3, axis=1)),
    }
    summary = summarise(results, cases, resamples=200, seed=0)
    rows = summary["interventions"]
    assert summary["seed_change_hu"] == pytest.approx(700 * np.abs(np.diff(images, axis=1)).mean())
    for key in ("image_change_hu", "score_change", "auroc_change"):
        assert rows["nothing"][key] == {"mean": 0.0, "ci95": [0.0, 0.0]}
    assert rows["brighter"]["image_change_hu"]["mean"] == pytest.approx(70)
    assert rows["brighter"]["score_change"]["ci95"] == pytest.approx([0.25, 0.25])
    assert rows["brighter"]["auroc_change"]["mean"] == pytest.approx(0)
    expected = roc_auc_score(labels, probabilities.mean(axis=1))
    assert rows[RECORDED]["auroc"]["mean"] == pytest.approx(expected)
    assert rows["knows"]["auroc"]["mean"] == 1.0
    assert rows["knows"]["auroc_change"]["mean"] == pytest.approx(1 - expected)
    low, high = rows["knows"]["auroc_change"]["ci95"]
    assert 0 < low < 1 - expected < high


def test_one_malignant_patient_takes_the_interval_of_the_auroc_alone() -> None:
    cases = Cases.of([{**case(index, index), "malignant": int(index == 0)} for index in range(12)])
    rng = np.random.default_rng(0)
    made = {RECORDED: rng.uniform(size=(12, 2)), "other": rng.uniform(size=(12, 2))}
    results = {title: Generated(np.zeros((12, 2, 4, 4)), each) for title, each in made.items()}
    row = summarise(results, cases, resamples=50, seed=0)["interventions"]["other"]
    assert row["score_change"]["ci95"] is not None and row["auroc"]["mean"] is not None
    assert row["auroc"]["ci95"] is None and row["auroc_change"]["ci95"] is None


class Brightness(torch.nn.Module):
    """A classifier that reads the mean."""

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        return crops.mean(dim=(1, 2, 3))[:, None]


class AgeInferer:
    """An "inferer" whose image is as bright as the report's patient is old."""

    num_runs = 2

    def __init__(self) -> None:
        self.conditions: list[list[str] | None] = []

    def __call__(self, inputs: torch.Tensor, network: Any, condition: list[str] | None) -> torch.Tensor:
        self.conditions.append(condition)
        reports = condition or ["0-year-old"] * len(inputs)
        ages = [float(text.split("-year-old")[0].split()[-1]) / 100 for text in reports]
        return torch.tensor(ages)[:, None, None, None].expand(-1, self.num_runs, *inputs.shape[-2:])


def test_the_study_on_a_dataset(tiny_dataset: Path, tmp_path: Path) -> None:
    result = steer(
        dataset_dir=tiny_dataset,
        section="training",
        network=None,  # type: ignore[arg-type]
        classifier=Brightness(),
        inferer=AgeInferer(),  # type: ignore[arg-type]
        output_dir=tmp_path,
        image_size=32,
        batch_size=4,
        resamples=50,
        record={"dataset": "its digest"},
    )
    rows = result["interventions"]
    ages = np.array([55.0 + index for index in range(6)])
    assert rows["age 74"]["image_change_hu"]["mean"] == pytest.approx(7 * (74 - ages).mean(), rel=1e-4)
    assert rows["margins smooth"]["image_change_hu"]["mean"] == 0 and rows["age 74"]["score_change"]["mean"] > 0
    assert rows[SHUFFLED]["image_change_hu"]["mean"] > 0 and result["seed_change_hu"] == 0
    assert json.loads((tmp_path / "steering.json").read_text()) == result
    assert (tmp_path / "figures" / "steering.png").read_bytes().startswith(b"\x89PNG")
    assert result["simulated"] and result["n_cases"] == 6 and result["record"] == {"dataset": "its digest"}


@pytest.mark.parametrize("interval", [True, False])
def test_the_study_reads_the_first_cases_and_reports_as_those_of_training(
    tiny_dataset: Path, tmp_path: Path, interval: bool
) -> None:
    inferer = AgeInferer()
    result = steer(
        dataset_dir=tiny_dataset,
        section="training",
        network=None,  # type: ignore[arg-type]
        classifier=Brightness(),
        inferer=inferer,  # type: ignore[arg-type]
        output_dir=tmp_path,
        image_size=32,
        resamples=20,
        limit=2,
        report_interval=interval,
    )
    assert result["n_cases"] == 2 and len(inferer.conditions) == 3 + len(CHANGES)
    reports = [report for condition in inferer.conditions for report in condition or []]
    assert len(reports) == 2 * (2 + len(CHANGES))
    assert all(("Follow-up after" in report) == interval for report in reports)
    assert [report.split("-year-old")[0].split()[-1] for report in reports[:2]] == ["55", "56"]
