"""What the scan tells of a case: age and sex, lung about the point, the side, values; drawn slices and real ones."""

import nibabel as nib
import numpy as np
import pydicom
import pytest

from data_prep.single import cut_single
from deploy import flags as module
from deploy.flags import body_of, flags, in_years, lung_share, of_header, of_point, read_header
from tests.deploy.scans import RECORD, chest, write_chest


def seen_from(point, **drawn):
    """The chest with a point in the array's middle."""
    hu = chest(**drawn)
    return np.roll(hu, [-round(part / module.WIDE_MM) for part in point], axis=(0, 1))


@pytest.mark.parametrize(("lobe", "wrong"), [(1, False), (2, False), (3, False), (4, True), (6, True), (8, False)])
def test_the_lobe_and_the_side_of_the_point(lobe, wrong):
    """LPS: negative x is the patient's right."""
    told = of_point(seen_from((-70, 0)), {**RECORD, "sct_epi_loc": lobe})
    assert any("patient's right half" in text for text in told) is wrong and len(told) == wrong
    told = of_point(seen_from((70, 0)), {**RECORD, "sct_epi_loc": lobe})
    assert any("patient's left half" in text for text in told) is (lobe in (1, 2, 3))


def test_the_side_is_told_from_the_bodys_middle():
    """Not from x = 0: patients lie off the middle. Near it, and of a record without lobe, nothing is told."""
    assert of_point(seen_from((-20, 0), middle=50.0), RECORD) == []
    assert "patient's left half" in of_point(seen_from((-20, 0), middle=-90.0), RECORD)[0]
    assert not any("half" in text for text in of_point(seen_from((10, 0)), RECORD))
    assert of_point(seen_from((70, 0)), {"age": 60}) == []


@pytest.mark.parametrize(("point", "lung"), [((-70, 0), True), ((0, 0), False), ((0, 95), False), ((-190, 150), False)])
def test_points_outside_the_lung(point, lung):
    """In a lung, between the lungs, in the back's muscles, outside the body."""
    told = of_point(seen_from(point), {})
    assert told == [] if lung else "Hardly any lung lies within 20 mm" in told[0]


def test_large_nodules_are_looked_at_from_beyond_their_edge():
    hu = seen_from((-70, 0))
    x, y = np.meshgrid(np.arange(400) * 2 - 400, np.arange(400) * 2 - 400, indexing="ij")
    hu[np.hypot(x, y) < 35] = 40
    assert of_point(hu, RECORD) and of_point(hu, {**RECORD, "sct_long_dia": 70}) == []


def test_a_part_of_a_chest_has_no_middle_but_lung():
    """As an image that was cut about one lung."""
    hu = np.full((400, 400), -1024.0)
    hu[150:250, 150:250] = seen_from((-70, 0))[150:250, 150:250]
    assert body_of(hu) is None and lung_share(hu, None, 20) > 0.9 and of_point(hu, {**RECORD, "sct_epi_loc": 4}) == []
    assert body_of(np.full((400, 400), -1000.0)) is None


@pytest.mark.parametrize(
    ("age", "sex", "words"),
    [
        ("061Y", "F", []),
        ("062Y", "F", []),  # a birthday
        ("063Y", "F", ["age"]),
        ("061Y", "M", ["gender"]),
        ("030Y", "m", ["age", "gender"]),
        ("", "O", []),
        ("abc", "", []),
        ("732M", "F", []),
    ],
)
def test_age_and_sex(age, sex, words):
    told = of_header({"PatientAge": age, "PatientSex": sex}, RECORD)
    assert len(told) == len(words) and all(word in text for word, text in zip(words, told, strict=True))
    assert not any(character.isdigit() for text in told for character in text)  # no value of the patient
    assert of_header({"PatientAge": age, "PatientSex": sex}, {}) == []


def test_ages_in_dicom():
    assert [in_years(text) for text in ("080Y", "006M", "Y", "1.5Y", "")] == [80.0, 0.5, None, None, None]


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    return write_chest(tmp_path_factory.mktemp("scan") / "series")


def test_a_good_case_has_no_flags(series):
    point = (-70.0, 0.0, 102.0)
    assert flags(series, point, RECORD, cut_single(series, point)) == []


def test_all_that_is_wrong_is_told(series, tmp_path):
    point = (100.0, 0.0, 102.0)
    crop = cut_single(series, point)
    crop.header["intent_name"] = "lossy"
    told = "\n".join(flags(series, point, {**RECORD, "age": 70, "gender": 1}, crop))
    for words in ("PatientAge", "PatientSex", "left half", "Nothing nodule-like", "compressed with loss"):
        assert words in told
    assert "70" not in told and "Doe" not in told and "061" not in told
    edge = (-190.0, 0.0, 102.0)
    assert any("ends within the crop" in text for text in flags(series, edge, {}, cut_single(series, edge)))
    scan = tmp_path / "bright.nii.gz"
    hu = (chest(256, 1.5)[..., None] + 1024).astype(np.int16)
    nib.save(nib.Nifti1Image(hu, [[-1.5, 0, 0, 192], [0, -1.5, 0, 192], [0, 0, 2, 0], [0, 0, 0, 1]]), scan)
    bright = cut_single(scan, (-70.0, 0.0, 0.0), 40)
    assert any("unlike HU of a chest CT" in text for text in flags(scan, (-70.0, 0.0, 0.0), RECORD, bright))


TUMOURS = {
    ("053Y", "F"): ((-60.0, -103.0, 192.0), "right", {"age": 53, "gender": 2, "sct_epi_loc": 2, "sct_long_dia": 78}),
    ("058Y", "M"): ((41.0, 202.0, -204.0), "left", {"age": 58, "gender": 1, "sct_epi_loc": 5, "sct_long_dia": 69}),
}
"""By age and sex in the header: middle, side and record of a tumour, by its reader's box."""


def test_real_scans(real_series):
    """Of the right record nothing is told; of another one what is wrong with it."""
    header = tuple(read_header(real_series).values())
    if header not in TUMOURS:
        pytest.skip("no box of this series")
    point, side, record = TUMOURS[header]
    assert flags(real_series, point, record, cut_single(real_series, point)) == []
    other = {"age": 40, "gender": 3 - record["gender"], "sct_epi_loc": 7 - record["sct_epi_loc"], "sct_long_dia": 8}
    told = "\n".join(flags(real_series, point, other, cut_single(real_series, point)))
    for words in (f"patient's {side} half", "PatientAge", "PatientSex", "Hardly any lung"):
        assert words in told


def test_the_header_is_that_of_the_series(series):
    assert read_header(series) == {"PatientAge": "061Y", "PatientSex": "F"}
    assert pydicom.dcmread(next(series.iterdir())).PatientName == "Doe^Jane"
