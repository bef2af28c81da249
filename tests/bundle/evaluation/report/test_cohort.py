"""The cohort in numbers, as the evaluation page tells it."""

from __future__ import annotations

from scripts.evaluation.report.cohort import describe, quartiles


def test_a_cohort_in_numbers():
    def case(patient, malignant, **ehr):
        return {"case_id": patient + str(malignant), "patient_id": patient, "malignant": malignant, "ehr": ehr}

    cases = [case("a", 1, gender=2, age=60, sct_long_dia=8), case("a", 0, gender=2, age=60, sct_long_dia=4)]
    cases.append(case("b", None, gender=1, age=70))
    told = describe({"training": cases, "validation": [], "test": [], "unpaired": [{}]}, "training")
    assert told["evaluated"] == "training" and told["unpaired"] == 1
    section = told["sections"]["training"]
    counts = [section[f"n_{name}"] for name in ("cases", "patients", "malignant", "benign", "unknown")]
    assert counts == [3, 2, 1, 1, 1] and section["women"] == 0.5
    assert section["age"] == [62.5, 65.0, 67.5] and section["long_mm"] == [5.0, 6.0, 7.0]
    assert section["interval_days"] is None and told["sections"]["test"]["women"] is None
    assert quartiles([None, float("nan")]) is None
