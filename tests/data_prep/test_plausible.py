"""What is worth a look in records: units, exchanged columns, nodules that change sides."""

import pytest

from data_prep.plausible import unlikely


def pair(number, days=365, lobes=(3, 3), **ehr):
    """A case of training."""
    return {
        "case_id": f"case-{number}",
        "baseline": f"{number}_T0",
        "follow_up": f"{number}_T1",
        "ehr": {"sct_long_dia": 9, "sct_perp_dia": 7, "sct_epi_loc": lobes[0], **ehr},
        "follow_up_attributes": {"sct_long_dia": 11, "sct_epi_loc": lobes[1]},
        "interval_days": days,
    }


def notes(*pairs, **sections):
    return unlikely({"training": list(pairs), **sections})


def test_usual_records():
    assert notes() == [] and notes(pair(1), pair(2, days=150), pair(3, lobes=(1, 3)), pair(4, lobes=(8, 4))) == []
    assert (
        notes(pair(1, sct_long_dia=None, sct_perp_dia="?"), unpaired=[{"image": "u"}], predict=[{"baseline": "p"}])
        == []
    )


def test_centimetres():
    single = [{"image": f"u{number}", "ehr": {"sct_long_dia": 0.5 + number}} for number in range(3)]
    (note,) = notes(pair(1), unpaired=single)
    assert note == "the median of 5 longest diameters is 2.5 mm, as if in cm: expected mm."


def test_exchanged_diameters():
    (note,) = notes(pair(1), pair(2, sct_perp_dia=9), pair(3, sct_long_dia=7, sct_perp_dia=9))
    assert note.startswith("in 1 of 3 records the perpendicular diameter is above the longest") and "(3_T0)" in note


@pytest.mark.parametrize(
    ("days", "unit"), [(12, "12 days, as if in weeks or months"), (52, "52 days"), (8760, "8760 days:")]
)
def test_intervals_in_another_unit(days, unit):
    (note,) = notes(pair(1, days), pair(2, days), pair(3))
    assert note.startswith(f"the median interval of 3 pairs is {unit}") and "expected some 100 to 1000, in days" in note


def test_a_nodule_that_changes_sides():
    (note,) = notes(pair(1), pair(2, lobes=(3, 4)), pair(3, lobes=(5, 2)), pair(4, lobes=(3, None)))
    assert note == "in 2 of 4 pairs the nodule is in one lung first and in the other later (case-2, case-3)."
