"""What is missing is named once, with the reason."""

from __future__ import annotations

from typing import Any

import numpy as np

from scripts.evaluation.left_out import left_out
from tests.bundle.evaluation.studies import make_study, run


def without(result: Any) -> dict[str, str]:
    return {each["reason"]: each["what"] for each in result["left_out"]}


def test_a_whole_evaluation_names_what_it_lacks_alone(outcome: Any) -> None:
    _, result, _ = outcome
    assert result["left_out"] == left_out(result)
    found = without(result)
    assert "not given for real images" not in found, "that is so of every dataset"
    assert "what generated images add" in found[result["added_value"]["reason"]]
    assert found["no nodule can be measured, or has a known diameter, at both times"].startswith("growth against")


def test_one_patient_without_an_outcome(tmp_path: Any, distance: Any) -> None:
    """Intervals, distances between cases and all scores of outcomes are missing, each with its reason."""
    study = make_study(count=2, runs=2)
    study["cases"] = [case | {"malignant": None} for case in study["cases"]]
    encoders = {"aligned": lambda images: images[:, :, ::8, ::8]}
    spacing = {"baseline": np.full((2, 2), 0.5), "follow_up": np.full((2, 2), 0.5)}
    result = run(study, tmp_path, perceptual=distance, encoders=encoders, spacing=spacing)
    found = without(result)
    scores = found["no case has a known outcome"].split(", ")
    assert {"AUROC", "AUPRC", "Brier", "recalibration", "decision curves", "what generated images add"} <= set(scores)
    assert found["no interval, for there are too few patients"] == "intervals"
    assert found["not defined for fewer than two patients"] == "KID"
    assert found["no training cases to fit on"] == "R² of log diameter"
    assert all(count == 1 for count in map(list(found).count, found)) and "AUROC of" not in str(found)


def test_reasons_of_thresholds_are_gathered(outcome: Any) -> None:
    _, result, _ = outcome
    points = {name: {"reason": "no validation"} for name in ("real_baseline", "NAMD_mean_probability")}
    assert {"what": "sensitivity and specificity", "reason": "no validation"} in left_out(
        {**result, "operating_points": points}
    )
