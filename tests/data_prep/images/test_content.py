"""What lies at a point, and what can be HU: on drawn chests whose nodule is known, and on real crops."""

import json

import nibabel as nib
import numpy as np
import pydicom
import pytest

from data_prep import datasheet
from data_prep.check import examine
from data_prep.cohort import build
from data_prep.images import crops
from data_prep.images.content import not_hu, spot
from tests.data_prep.helpers import rows, stack, write_series, write_table

PIXELS, MM = 256, 0.7
LEFT, RIGHT = (40.0, -15.0), (-44.0, 12.0)
"""Points in the lungs, mm from the middle."""


def chest(*nodules, radius=5.0, density=30.0, seed=0):
    """A plane (x, y) of a body with two lungs and nodules, with noise, in HU."""
    x, y = np.meshgrid(*[MM * (np.arange(PIXELS) - PIXELS // 2)] * 2, indexing="ij")
    hu = np.full((PIXELS, PIXELS), -1000.0)
    hu[np.hypot(x / 88, y / 75) < 1] = 40
    for side in (-46, 46):
        hu[np.hypot((x - side) / 30, y / 50) < 1] = -850
    for across, down in nodules:
        hu[np.hypot(x - across, y - down) < radius] = density
    return (hu + np.random.default_rng(seed).normal(0, 20, hu.shape)).round().clip(-1024, 3071)


def at(point):
    """The pixel of a point in mm from the middle."""
    return [PIXELS // 2 + each / MM for each in point]


@pytest.mark.parametrize(("radius", "density"), [(2.5, 30), (5, 30), (9, -100), (4, -550), (14, 60)])
def test_nodules_are_seen(radius, density):
    for point in (LEFT, RIGHT):
        assert spot(chest(point, radius=radius, density=density), at(point), (MM, MM)).seen


@pytest.mark.parametrize("point", [LEFT, RIGHT, (0.0, 0.0), (0.0, -65.0), (-42.0, -40.0), (60.0, 10.0), (0.0, 45.0)])
def test_where_nothing_is_nothing_is_seen(point):
    """In lung, in the middle of the chest, in its wall."""
    assert not spot(chest((40.0, 20.0)), at(point), (MM, MM)).seen


def test_what_is_too_small_does_not_tell():
    hu = chest(LEFT)
    x, y = (round(each) for each in at(LEFT))
    assert spot(hu[x - 10 : x + 10, y - 10 : y + 10], (10, 10), (MM, MM)) is None
    assert spot(hu[x - 20 : x + 20, y - 20 : y + 20], (20, 20), (MM, MM)).seen


def written(folder, kind, point, number=0):
    """A scan with a nodule at a point; its centre in mm (LPS) and in voxels."""
    plane = chest(point, seed=number)
    column, row = (round(each) for each in at(point))
    if kind == "series":
        origin = (-MM * PIXELS / 2, -MM * PIXELS / 2, 100.0)

        def count(index, item):
            item.InstanceNumber = index + 1

        volume = np.repeat(plane.T[None], 5, axis=0)
        write_series(folder, volume.astype(int), stack(5, origin=origin), spacing=(MM, MM), edit=count)
        return (origin[0] + MM * column, origin[1] + MM * row, 104.0), (column, row, 2)
    volume = np.repeat(plane[..., None], 5, axis=2).astype(np.int16)
    nib.save(nib.Nifti1Image(volume, np.diag([-MM, -MM, 2.0, 1.0])), folder)
    return (MM * column, MM * row, 4.0), (column, row, 2)


@pytest.mark.parametrize("kind", ["series", "a.nii.gz"])
def test_the_convention_that_would_fit_is_named(tmp_path, kind):
    """Of NIfTI that counts from zero, voxels lie within too; of a centred series, RAS does."""
    (x, y, z), voxel = written(tmp_path / kind, kind, RIGHT)
    assert crops.cut(tmp_path / kind, (x, y, z), 64).extra["point"] == "seen"
    if kind == "series":
        assert crops.cut(tmp_path / kind, (-x, -y, z), 64).extra["point"] == "RAS"
        assert crops.cut(tmp_path / kind, (x + 20, y + 10, z), 64).extra["point"] == "nothing"
    else:
        assert crops.cut(tmp_path / kind, voxel, 64).extra["point"] == "voxels"
        centred = nib.load(tmp_path / kind)
        affine = centred.affine.copy()
        affine[:2, 3] = MM * PIXELS / 2
        nib.save(nib.Nifti1Image(np.asanyarray(centred.dataobj), affine), tmp_path / kind)
        x, y = x - MM * PIXELS / 2, y - MM * PIXELS / 2
        assert crops.cut(tmp_path / kind, (x, y, z), 64).extra["point"] == "seen"
        assert crops.cut(tmp_path / kind, (-x, -y, z), 64).extra["point"] == "RAS"


def test_a_septum_is_rather_not_meant_where_a_nodule_lies_at_the_same_numbers_in_ras(tmp_path):
    """As in the real scan of NLST participant 101287, whose nodule lies near the middle."""
    plane = chest(LEFT)
    x, y = (round(each) for each in at([-each for each in LEFT]))
    plane[x - 1 : x + 2, y - 40 : y + 40] = 30
    origin = (-MM * PIXELS / 2, -MM * PIXELS / 2, 100.0)
    write_series(tmp_path / "a", np.repeat(plane.T[None], 3, axis=0).astype(int), stack(3, origin), spacing=(MM, MM))
    assert crops.cut(tmp_path / "a", (*LEFT, 102.0), 64).extra["point"] == "seen"
    assert crops.cut(tmp_path / "a", (-LEFT[0], -LEFT[1], 102.0), 64).extra["point"] == "rather RAS"


def test_voxels_of_a_series_are_column_row_and_slice(tmp_path):
    hu = np.full((9, PIXELS, PIXELS), -850)
    hu[6] = chest(RIGHT).T
    write_series(tmp_path / "a", hu, stack(9, origin=(-10.0, -10.0, -2.0)), spacing=(MM, MM))
    column, row = (round(each) for each in at(RIGHT))
    assert crops.cut(tmp_path / "a", (column, row, 6), 64).extra["point"] == "voxels"


def test_one_slice_is_all_that_is_read_of_a_scan_that_shows_its_nodule(tmp_path, monkeypatch):
    centre, _ = written(tmp_path / "a", "series", LEFT)
    read, decoded = [], pydicom.dcmread
    monkeypatch.setattr(pydicom, "dcmread", lambda *a, **k: read.append(a) or decoded(*a, **k))
    crops.cut(tmp_path / "a", centre, 64)
    assert len(read) == 1


def dataset(folder, turn, count=4):
    """A dataset of series whose points are turned by a function."""
    table = []
    for number in range(count):
        centre, _ = written(folder / f"{number}", "series", (LEFT, RIGHT)[number % 2], number)
        point = dict(zip("xyz", turn(number, *centre), strict=True))
        table.append(rows(patient_id=f"P{number}", image=f"{number}", split="training", **point))
    build(write_table(folder, table), folder / "out", size=64, keep_ids=True)
    return examine(folder / "out")


@pytest.fixture
def no_card(monkeypatch):
    monkeypatch.setattr(datasheet, "write", lambda *_: None)


EMPTY = [f"section {section}: no cases." for section in ("training", "validation", "test")]


def test_check_names_the_other_convention(tmp_path, no_card):
    overview = dataset(tmp_path, lambda _, x, y, z: (-x, -y, z))
    (finding,) = [finding for finding in overview.findings if "nodule-like" in finding]
    assert finding.startswith("4 of 4 crops show nothing nodule-like at their x, y, z, but would if x and y counted")
    assert "--system RAS" in finding and "crops/P0_1_T0.nii.gz" in finding


def test_check_is_silent_where_points_are_right_and_names_one_that_is_not(tmp_path, no_card):
    overview = dataset(tmp_path, lambda number, x, y, z: (x + 25 * (number == 3), y, z))
    (finding,) = [finding for finding in overview.findings if finding not in EMPTY]
    assert finding == ("1 of 4 crops show nothing nodule-like at their x, y, z: look at them (crops/P3_1_T0.nii.gz).")


def test_few_of_many_are_worth_a_look_and_no_fault(tmp_path, call):
    names = [f"crops/{number}.nii.gz" for number in range(200)]
    cases = [{"case_id": name, "patient_id": name, "image": name, "ehr": {}} for name in names]
    (tmp_path / "datalist.json").write_text(json.dumps({"crop_size": 64, "unpaired": cases}))
    points = {7: "nothing", 9: "RAS"}
    lines = [
        {"crop": name, "seen": "", "unpadded": [0, 64, 0, 64], "point": points.get(number, "seen"), "placed": True}
        for number, name in enumerate(names)
    ]
    (tmp_path / "crops.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    overview = examine(tmp_path)
    assert not any("nodule-like" in finding for finding in overview.findings) and len(overview.notes) == 2
    assert "1 of 200 crops" in overview.notes[1] and "crops/7.nii.gz" in overview.notes[1]
    assert "look: 1 of 200" in call("check", tmp_path)[1].out


CROP = chest(LEFT)[110:220, 50:160]
RAW = CROP + 1024


@pytest.mark.parametrize(
    ("hu", "words"),
    [
        (CROP, None),
        (chest(LEFT, density=-600)[150:210, 80:140], None),
        ((CROP - 1024).clip(-1024, 3071), "as if rescaled twice"),
        ((chest(LEFT)[150:210, 80:140] - 1024).clip(-1024, 3071), "as if rescaled twice"),
        ((CROP - 1000).clip(-1024, 3071), "-1024: cut off there"),
        (RAW.clip(-1024, 3071), "no lung in it, or not HU"),
        (np.where(np.arange(110) < 9, 3071, CROP), "3071: cut off there"),
        (np.where(np.arange(110) < 70, -1024, CROP), "-1024: cut off there"),
        (CROP / 1000, "no lung in it, or not HU"),
        (CROP * 10, "expected HU from"),
    ],
)
def test_values_that_are_no_hu(hu, words):
    faults = not_hu(hu, (MM, MM))
    assert (not faults) if words is None else any(words in fault for fault in faults), faults


def test_real_crops_are_hu_and_show_their_nodules(shared_data):
    """Every ninth of the given crops; of all 1,348 eleven show nothing, and none has values that are no HU."""
    images = sorted((shared_data / "lidc_progression" / "images").iterdir())[::9]
    seen = []
    for path in images:
        image = nib.load(path)
        hu, spacing = np.asarray(image.dataobj, dtype=np.float32)[..., 0], image.header.get_zooms()
        assert not_hu(hu, spacing) == []
        found = spot(hu, [count // 2 for count in hu.shape], spacing)
        seen += [] if found is None else [found.seen]
    assert len(seen) > 145 and np.mean(seen) > 0.97
