"""Other nodule sets to the cohort table: each gives one that the schema takes, and that is cut where the set says."""

import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import pytest

from data_prep import sources
from data_prep.contract import read_cohort
from data_prep.errors import DataError
from data_prep.images import crops
from data_prep.images.dicom import open_series
from tests.data_prep.helpers import stack, write_series

SPOT = (12.0, -20.0, 6.0)
"""Where the image has its bright voxel: mm, LPS."""


@pytest.fixture
def images(tmp_path):
    """One scan by the names that the sets have, with a bright voxel."""
    affine = np.diag([-1.0, -1.0, 2.0, 1.0])
    affine[:3, 3] = (30, 40, -10)
    hu = np.full((60, 70, 20), -800, dtype=np.int16)
    x, y, z = np.rint(np.linalg.inv(affine) @ [-SPOT[0], -SPOT[1], SPOT[2], 1])[:3].astype(int)
    hu[x, y, z] = 300
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("1.2.3", "DLCS_0001", "scan7"):
        nib.save(nib.Nifti1Image(hu, affine), folder / f"{name}.nii.gz")
    return folder


def converted(tmp_path, images, kind, text, name="annotations.csv", **options):
    (tmp_path / name).write_text(text)
    counts = sources.convert(kind, tmp_path / name, tmp_path / "cohort.csv", images, **options)
    table = read_cohort(tmp_path / "cohort.csv")
    row = table.iloc[0]
    crop = crops.cut(tmp_path / row.image, (row.x, row.y, row.z), 32)
    assert crop.get_fdata()[16, 16, 0] == 300, "the crop's middle is the bright voxel"
    return table, counts


def test_luna16(tmp_path, images):
    text = (
        "seriesuid,coordX,coordY,coordZ,diameter_mm,mal_details\n"
        '1.2.3,12,-20,6,9.5,"[5, 4, 4]"\n1.2.3,0,0,0,4.1,"[2]"\n9.9.9,1,1,1,5,"[3]"\n'
    )
    table, counts = converted(tmp_path, images, "luna16", text)
    assert counts == {"taken": 2, "no image": 1}
    assert table["nodule_id"].tolist() == ["1", "2"] and table["sct_long_dia"].tolist() == [9.5, 4.1]
    assert table["malignant"].isna().all() and float(table["malignancy_rating"][0]) == 4.33


def test_luna25(tmp_path, images):
    text = (
        "PatientID,SeriesInstanceUID,StudyDate,CoordX,CoordY,CoordZ,LesionID,AnnotationID,NoduleID,label,"
        "Age_at_StudyDate,Gender\n100012,1.2.3,20000102,12,-20,6,3,a,b,1,61,Female\n"
    )
    table, _ = converted(tmp_path, images, "luna25", text)
    row = table.iloc[0]
    assert (row.patient_id, row.nodule_id, row.study_yr) == ("100012", "3", 1)
    assert (row.age, row.gender, row.malignant) == (61, 2, 1)


def test_dlcs_asks_for_the_system_of_its_coordinates(tmp_path, images):
    text = (
        "patient-id,nodule_id,ct_nifti_file,coordX,coordY,coordZ,w,h,d,Malignant_lbl,benchmark_split\n"
        "DLCS_0001,DLCS_0001_01,DLCS_0001.nii.gz,-12,20,6,8,6,7,0,train\n"
    )
    with pytest.raises(DataError, match="--system LPS or --system RAS"):
        converted(tmp_path, images, "dlcs", text)
    table, _ = converted(tmp_path, images, "dlcs", text, system="RAS")
    row = table.iloc[0]
    assert (row.sct_long_dia, row.sct_perp_dia, row.malignant, row.split) == (8, 6, 0, "training")


def test_lidc_takes_the_readers_median(tmp_path, images):
    head = "patient_id,series_instance_uid,nodule_id,x,y,z,diameter,texture,margin,spiculation,malignancy\n"
    readers = ("11,-20,6,8,5,4,1,4", "12,-20,6,9,5,2,4,5", "13,-20,6,14,3,2,5,3")
    text = head + "".join(f"LIDC-IDRI-0001,1.2.3,1,{row}\n" for row in readers)
    table, counts = converted(tmp_path, images, "lidc", text)
    row = table.iloc[0]
    assert (
        row.licence == "CC BY 3.0"
        and counts["taken"] == 1
        and np.isnan(row.malignant)
        and float(row.malignancy_rating) == 4
    )
    assert (row.sct_long_dia, row.sct_pre_att, row.sct_margins) == (9, 1, 1)


PLAN = """
table: export.csv
columns: {patient_id: MRN, nodule_id: Nodule, series: File, x: X, y: Y, z: Z, sct_margins: Margin, age: Age}
codes: {sct_margins: {spiculated: 1, smooth: 2}}
date: Day
source: Our programme
"""
EXPORT = """MRN,Nodule,File,X,Y,Z,Margin,Age,Day,Remark
7,a,scan7,12,-20,6,Smooth,60,2020-01-31,x
7,a,scan7,12,-20,6,,61,{}
"""


def test_a_sites_own_export(tmp_path, images):
    (tmp_path / "export.csv").write_text(EXPORT.format("2021-02-01,y"))
    table, _ = converted(tmp_path, images, "export", PLAN, "plan.yaml")
    assert table["days_from_baseline"].tolist() == [0, 367] and table["sct_margins"].tolist()[0] == 2
    assert "remark" not in table and set(table["source"]) == {"Our programme"}


def test_a_sites_faults_at_once(tmp_path, images):
    (tmp_path / "export.csv").write_text(EXPORT.replace("Smooth", "odd").format("never,y"))
    with pytest.raises(DataError) as caught:
        converted(tmp_path, images, "export", PLAN, "plan.yaml")
    assert "'odd' has no code" in str(caught.value) and "row 3, column day: no date" in str(caught.value)
    with pytest.raises(DataError, match="columns: x is missing"):
        converted(tmp_path, images, "export", PLAN.replace("x: X, ", ""), "plan.yaml")


def test_what_cannot_be_converted(tmp_path, images):
    with pytest.raises(DataError, match="expected one of dlcs, export, lidc, luna16, luna25"):
        sources.convert("luna99", tmp_path / "a.csv", tmp_path / "cohort.csv")
    with pytest.raises(DataError, match="none of the 1 images"):
        converted(tmp_path, images, "luna16", "seriesuid,coordX,coordY,coordZ,diameter_mm\n9,1,2,3,4\n")
    with pytest.raises(DataError, match="row 2: x is 'left'"):
        converted(tmp_path, images, "luna16", "seriesuid,coordX,coordY,coordZ,diameter_mm\n1.2.3,left,2,3,4\n")


def test_real_luna16(shared_data, tmp_path):
    """Of the second table a copy is at hand that ends in row 1182, in the middle of a number."""
    counts = {}
    whole, cut = (shared_data / "luna16" / f"luna16_annotations{end}.csv" for end in ("", "_with_malignancy"))
    with pytest.raises(DataError, match="row 1182: the file ends within it"):
        sources.convert("luna16", cut, tmp_path / "cohort.csv")
    mended = tmp_path / cut.name
    mended.write_text(cut.read_text().rpartition("\n")[0])
    for path in (whole, mended):
        sources.convert("luna16", path, tmp_path / "cohort.csv")
        table = pd.read_csv(tmp_path / "cohort.csv")
        counts[path.stem] = (len(table), table["patient_id"].nunique())
        assert table["sct_long_dia"].between(3, 35).all()
    assert counts["luna16_annotations"] == (1186, 601)
    assert counts["luna16_annotations_with_malignancy"][0] == 1180


SETS = {
    "luna16": ("seriesuid,coordX,coordY,coordZ,diameter_mm,mal_details\n", '1.2.3,12,-20,6,9.5,"[5, 4]"\n', {}),
    "dlcs": (
        "patient-id,nodule_id,ct_nifti_file,coordX,coordY,coordZ,w,h,Malignant_lbl,benchmark_split\n",
        "D1,1,DLCS_0001.nii.gz,12,-20,6,9.5,6.5,0,train\n",
        {"system": "LPS"},
    ),
    "lidc": (
        "patient_id,series_instance_uid,nodule_id,x,y,z,diameter,texture,margin,spiculation,malignancy\n",
        "L1,1.2.3,1,12,-20,6,9.5,5,4,1,4\n",
        {},
    ),
}


@pytest.mark.parametrize("kind", SETS)
def test_semicolons_with_decimal_commas_give_the_same_cohort(tmp_path, images, kind):
    header, row, options = SETS[kind]
    plain, _ = converted(tmp_path, images, kind, header + row, **options)
    text = (header + row).replace('"[5, 4]"', "[5! 4]").replace(",", ";").replace("9.5", "9,5").replace("6.5", "6,5")
    other, _ = converted(tmp_path, images, kind, text.replace("!", ","), **options)
    assert plain["sct_long_dia"].tolist() == [9.5]
    pd.testing.assert_frame_equal(plain, other)


@pytest.mark.parametrize(
    ("kind", "old", "new", "told"),
    [
        ("luna16", "9.5", '"9,5"', "row 3: sct_long_dia is '9,5' has a comma where numbers have a point"),
        ("luna16", "[5, 4]", "[5, 4.5]", "row 3, column mal_details: '[5, 4.5]'"),
        ("luna16", "[5, 4]", "mostly 4", "row 3, column mal_details: 'mostly 4'"),
        ("dlcs", "9.5", '"9,5"', "row 3, column w: '9,5' has a comma"),
        ("dlcs", "train", "hold-out", "row 3, column benchmark_split: 'hold-out'; expected one of train, val, test"),
        ("dlcs", ",0,", ",benign,", "row 3: malignant is 'benign'; expected a number"),
        ("dlcs", "12,-20", ",-20", "row 3: x is ''; expected millimetres"),
        ("lidc", "9.5", '"9,5"', "row 3, column diameter: '9,5' has a comma"),
        ("lidc", ",5,4,1,4", ",5,4,1,high", "row 3, column malignancy: 'high'; expected a number"),
        ("lidc", "L1,", ",", "row 3, column patient_id: ''; expected a value"),
    ],
)
def test_a_value_that_is_there_and_cannot_be_read_is_no_gap(tmp_path, images, kind, old, new, told):
    """In the row of the file, a blank one before it."""
    header, row, options = SETS[kind]
    assert old in row
    with pytest.raises(DataError) as caught:
        converted(tmp_path, images, kind, header + "\n" + row.replace(old, new), **options)
    assert told in str(caught.value)


@pytest.mark.parametrize("kind", SETS)
def test_a_set_without_rows(tmp_path, images, kind):
    header, _, options = SETS[kind]
    with pytest.raises(DataError, match="no rows"):
        converted(tmp_path, images, kind, header, **options)


def test_a_reader_without_an_opinion_is_no_fault(tmp_path, images):
    header, row, _ = SETS["lidc"]
    table, _ = converted(tmp_path, images, "lidc", header + row + row.replace("9.5,5,4,1,4", "11.5,,,,NA"))
    assert (table["sct_long_dia"][0], table["sct_pre_att"][0]) == (10.5, 1)


@pytest.mark.parametrize("day", ["2021", "2021-02", "43862", "01/02/2021", "2021-02-30", ""])
def test_a_sites_dates_that_are_none(tmp_path, images, day):
    (tmp_path / "export.csv").write_text(EXPORT.format(f"{day},y"))
    with pytest.raises(DataError, match="row 3, column day: no date; expected YYYY-MM-DD"):
        converted(tmp_path, images, "export", PLAN, "plan.yaml")


@pytest.mark.parametrize("day", ["20210201", "2021-02-01T23:30:00", "2021-02-01 00:00:00"])
def test_a_sites_dates(tmp_path, images, day):
    (tmp_path / "export.csv").write_text(EXPORT.format(f"{day},y"))
    table, _ = converted(tmp_path, images, "export", PLAN, "plan.yaml")
    assert table["days_from_baseline"].tolist() == [0, 367]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("60,2020", '"60,5",2020', "row 2, column age: '60,5' has a comma where numbers have a point"),
        ("12,-20,6,Smooth", "left,-20,6,Smooth", "row 2, column x: 'left'; expected a number"),
        ("12,-20,6,,61", "12,-20,,,61", "row 3, column z: ''; expected a number"),
    ],
)
def test_a_sites_numbers_are_faults_of_its_own_table(tmp_path, images, old, new, told):
    text = EXPORT.format("2021-02-01,y")
    assert old in text
    (tmp_path / "export.csv").write_text(text.replace(old, new))
    with pytest.raises(DataError) as caught:
        converted(tmp_path, images, "export", PLAN, "plan.yaml")
    assert str(caught.value).startswith(f"{tmp_path / 'export.csv'}: 1 fault") and told in str(caught.value)


def test_yes_and_no_are_words_of_a_plan(tmp_path, images):
    """YAML takes them for true and false."""
    plan = PLAN.replace("sct_margins: Margin", "diagemph: Margin").replace("sct_margins: {spiculated", "diagemph: {'n'")
    plan = plan.replace("{'n': 1, smooth: 2}", "{Yes: 1, no: 0}")
    (tmp_path / "export.csv").write_text(
        EXPORT.format("2021-02-01,y").replace("Smooth", "No").replace("6,,61", "6,yes,61")
    )
    table, _ = converted(tmp_path, images, "export", plan, "plan.yaml")
    assert table["diagemph"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("codes:", "code:", "code: unknown; expected table"),
        ("source:", "sources:", "sources: unknown"),
        ("codes: {sct_margins: {spiculated: 1, smooth: 2}}", "codes: [sct_margins]", "codes: expected for each column"),
        ("date: Day", "date: [Day]", "date: expected text"),
        ("x: X", "x: [X]", "expected `table` and `columns`"),
    ],
)
def test_plans_with_faults(tmp_path, images, old, new, told):
    (tmp_path / "export.csv").write_text(EXPORT.format("2021-02-01,y"))
    with pytest.raises(DataError) as caught:
        converted(tmp_path, images, "export", PLAN.replace(old, new), "plan.yaml")
    assert told in str(caught.value)


def scan(path, hu):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.full((40, 40, 8), hu, np.int16), np.diag([-1.0, -1.0, 2.0, 1.0])), path)


def site(tmp_path, names, *files):
    """A site's table of these images and its folder of these files; gives the image that each row got."""
    for number, name in enumerate(files):
        scan(tmp_path / "images" / name, -900 + number)
    text = "".join(f"P{number},1,{name},10,10,6\n" for number, name in enumerate(names))
    (tmp_path / "t.csv").write_text(f"pid,nodule,file,x,y,z\n{text}")
    columns = "{patient_id: pid, nodule_id: nodule, series: file, x: x, y: y, z: z}"
    (tmp_path / "plan.yaml").write_text(f"table: t.csv\ncolumns: {columns}\n")
    sources.convert("export", tmp_path / "plan.yaml", tmp_path / "cohort.csv", tmp_path / "images")
    table = pd.read_csv(tmp_path / "cohort.csv")
    return dict(zip(table["patient_id"], table["image"], strict=True))


@pytest.mark.parametrize(
    "files",
    [
        ("P1/ct.nii.gz", "P2/ct.nii.gz"),
        ("scans/ct.nii.gz", "masks/ct.nii.gz"),
        ("ct.nii.gz.d/ct.nii", "other/ct.nii.gz"),
        ("a/b/ct.nii.gz", "a/c/ct.nii.gz", "d/ct.nii.gz"),
    ],
)
@pytest.mark.parametrize("name", ["ct", "{}"])
def test_names_of_several_images_are_refused(tmp_path, files, name):
    last = files[-1].rsplit("/", 1)[1]
    if len({file.rsplit("/", 1)[1] for file in files}) > 1 and name != "ct":
        pytest.skip("whole names differ")
    with pytest.raises(DataError, match="1 names are each that of several images") as caught:
        site(tmp_path, [name.format(last)] * 2, *files)
    assert all(file in str(caught.value) for file in files) and not (tmp_path / "cohort.csv").exists()


@pytest.mark.parametrize("form", ["{}.nii.gz", "{}", "./{}.nii.gz", "deep/{}"])
def test_paths_from_the_folder_tell_images_apart(tmp_path, form):
    names = [f"P{number}/ct" for number in range(3)]
    found = site(tmp_path, [form.format(name) for name in names], *(f"deep/{name}.nii.gz" for name in names))
    assert found == {f"P{number}": f"images/deep/P{number}/ct.nii.gz" for number in range(3)}


def test_windows_paths_and_the_shortest_path_wins(tmp_path):
    found = site(tmp_path, ["P0\\ct", "ct.nii.gz"], "P0/ct.nii.gz", "ct.nii.gz")
    assert found == {"P0": "images/P0/ct.nii.gz", "P1": "images/ct.nii.gz"}


def test_names_that_nobody_asks_for_may_be_alike(tmp_path):
    assert site(tmp_path, ["scan1", "scan2"], "scan1.nii.gz", "scan2.nii.gz", "a/mask.nii.gz", "b/mask.nii.gz") == {
        "P0": "images/scan1.nii.gz",
        "P1": "images/scan2.nii.gz",
    }


def test_a_link_is_no_second_image(tmp_path):
    scan(tmp_path / "images" / "one" / "ct.nii.gz", -800)
    (tmp_path / "images" / "two").mkdir()
    (tmp_path / "images" / "two" / "ct.nii.gz").symlink_to(tmp_path / "images" / "one" / "ct.nii.gz")
    assert site(tmp_path, ["ct"])["P0"] in ("images/one/ct.nii.gz", "images/two/ct.nii.gz")


def test_series_beside_a_mask_are_found_and_copies_are_one_as_long_as_they_are_equal(tmp_path):
    hu = np.full((3, 20, 20), -800)
    write_series(tmp_path / "images" / "P0", hu, stack(3))
    uid = pydicom.dcmread(next((tmp_path / "images" / "P0").iterdir())).SeriesInstanceUID
    assert site(tmp_path, [uid], "masks/lung.nii.gz")["P0"] == "images/P0"
    shutil.copytree(tmp_path / "images" / "P0", tmp_path / "images" / "copy")
    assert site(tmp_path, [uid])["P0"] == "images/P0"
    changed = next((tmp_path / "images" / "copy").iterdir())
    changed.write_bytes(changed.read_bytes()[:-2] + b"12")
    assert site(tmp_path, [uid])["P0"] == "images"
    with pytest.raises(DataError, match="duplicate slices"):
        open_series(tmp_path / "images", uid)
