"""What is known of the cases, read once: gaps, counts, and what cannot be a study."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from scripts.ehr.encoding import attributes
from scripts.ehr.report import radiology_report
from scripts.evaluation.study import Cases, Study

ENTRIES = [
    {
        "case_id": "a",
        "patient_id": 7,
        "malignant": 1,
        "ehr": {"sct_long_dia": 8.0, "sct_perp_dia": 6.0, "sct_margins": 1},
        "follow_up_attributes": {"sct_long_dia": 9.5},
        "interval_days": 400,
    },
    {"case_id": "b", "patient_id": 7, "malignant": 0, "ehr": {"age": 60}},
    {"case_id": "c", "patient_id": 8},
]


def test_cases_are_the_datalists_with_nan_where_it_is_silent() -> None:
    cases = Cases.of(ENTRIES)
    nan = np.nan
    assert (cases.ids, cases.patients) == (["a", "b", "c"], ["7", "7", "8"])
    np.testing.assert_equal(cases.labels, [1, 0, nan])
    np.testing.assert_equal(cases.diameters, [[8, 6], [nan, nan], [nan, nan]])
    np.testing.assert_equal(cases.follow_up_diameters, [[9.5, nan], [nan, nan], [nan, nan]])
    np.testing.assert_equal(cases.days, [400, nan, nan])
    assert cases.reports == [
        radiology_report(ENTRIES[0]["ehr"], 400),
        radiology_report({"age": 60}),
        radiology_report({}),
    ]
    np.testing.assert_equal(cases.attributes, [attributes(entry.get("ehr", {})) for entry in ENTRIES])
    assert cases.counts() == {"n_cases": 3, "n_patients": 2, "n_malignant": 1, "n_benign": 1}


def test_field_is_the_shorter_side_of_either_time() -> None:
    crops = np.zeros((3, 1, 64, 32))
    spacing = {"baseline": np.array([[0.5, 2.0]] * 3), "follow_up": np.array([[1.0, 1.0], [1.0, 0.5], [0.25, 1.0]])}
    assert Study(Cases.of(ENTRIES), crops, crops, spacing).field_mm.tolist() == [32, 16, 16]


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (3, 8, 8), (3, 3, 8, 8)])
def test_images_of_other_cases_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"follow_up must be \(cases, 1, H, W\) of 3 cases"):
        Study(Cases.of(ENTRIES), np.zeros(shape), np.zeros(shape))


def test_no_case_is_no_study() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Study(Cases.of(ENTRIES[:0]), np.zeros((0, 1, 8, 8)), np.zeros((0, 1, 8, 8)))


def test_the_evaluation_alone_reads_the_truth_of_simulated_cases():
    """No part that trains, generates or is compared names it, but for the digest of a dataset, which leaves it out."""
    scripts = Path(__file__).parents[3] / "bundle" / "scripts"
    naming = {
        str(path.relative_to(scripts))
        for path in scripts.rglob("*.py")
        if re.search(r"""["'](truth|oracle|oracle_growth|simulated_growth)["']""", path.read_text(encoding="utf-8"))
    }
    assert naming == {"evaluation/study.py", "data/digest.py"}
    cases = Cases.of([ENTRIES[0] | {"truth": {"oracle": 0.2, "oracle_growth": 0.9}}, ENTRIES[1]])
    assert cases.oracle[0] == 0.2 and cases.informed[0] == 0.9 and np.isnan([cases.oracle[1], cases.informed[1]]).all()
