"""What of a crop no image fills: told by the dataset, its card, the check and the picture. By hand and numpy.pad."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from data_prep import datasheet
from data_prep.check import examine
from data_prep.cohort import build
from data_prep.images import crops
from data_prep.padding import Padding, padding, within_field
from tests.data_prep.helpers import rows, stack, write_series, write_table

AFFINE = np.diag([-0.5, -0.5, 1.0, 1.0])


def image(path, shape, seed=0):
    hu = np.random.default_rng(seed).integers(-1000, 300, (*shape, 1)).astype(np.int16)
    nib.save(nib.Nifti1Image(hu, AFFINE), path)
    return hu[..., 0]


@pytest.mark.parametrize(
    ("shape", "size"), [((50, 44), 64), ((45, 80), 64), ((31, 30), 128), ((64, 64), 64), ((90, 99), 64)]
)
def test_the_unpadded_part_is_the_image(tmp_path, shape, size):
    hu = image(tmp_path / "a.nii.gz", shape)
    crop = crops.cut(tmp_path / "a.nii.gz", None, size)
    low, high, left, right = crop.extra["unpadded"]
    starts = [count // 2 - size // 2 for count in shape]
    assert (low, left) == tuple(max(0, -start) for start in starts)
    part = hu[max(starts[0], 0) :, max(starts[1], 0) :][: high - low, : right - left]
    np.testing.assert_array_equal(crop.get_fdata()[low:high, left:right, 0], part)
    assert (high - low, right - left) == tuple(min(count, size) for count in shape)
    filled = np.pad(part, ((low, size - high), (left, size - right)), mode="reflect")
    np.testing.assert_array_equal(crop.get_fdata()[..., 0], filled)


@pytest.mark.parametrize("spacing", [0.4, 0.5, 0.7, 1.1])
def test_with_pixels_of_another_size(tmp_path, spacing):
    """Every pixel of the part lies between the first and the last of the image, and the next one does not."""
    image(tmp_path / "a.nii.gz", (41, 36))
    crop = crops.cut(tmp_path / "a.nii.gz", (10.0, 9.0, 0.0), 64, spacing)
    for axis, count in ((0, 41), (1, 36)):
        first, end = crop.extra["unpadded"][2 * axis : 2 * axis + 2]
        places = -(crop.affine[axis, axis] * np.arange(-1, 65) + crop.affine[axis, 3])
        inside = (places >= -1e-6) & (places <= 0.5 * (count - 1) + 1e-6)
        assert [first, end] == [np.flatnonzero(inside)[0] - 1, np.flatnonzero(inside)[-1]]


def test_air_beyond_a_scan_is_padding_too(tmp_path):
    write_series(tmp_path / "a", np.full((3, 60, 70), -700), stack(3))
    crop = crops.cut(tmp_path / "a", (-40 + 0.6 * 5, -30 + 0.8 * 50, 102.0), 32)
    assert crop.extra["unpadded"] == [11, 32, 0, 26]
    np.testing.assert_array_equal(np.flatnonzero((crop.get_fdata()[..., 0] == -700).any(axis=1)), np.arange(11, 32))
    np.testing.assert_array_equal(np.flatnonzero((crop.get_fdata()[..., 0] == -700).any(axis=0)), np.arange(26))


@pytest.mark.parametrize(
    ("box", "size", "seen"),
    [
        ([32, 96, 32, 96], 128, False),
        ([33, 96, 32, 96], 128, True),
        ([0, 128, 0, 95], 128, True),
        ([0, 64, 0, 64], 64, False),
        ([0, 63, 0, 64], 64, True),
        ([1, 32, 0, 32], 32, True),
        ([0, 127, 0, 128], 128, False),
    ],
)
def test_what_models_see_is_the_middle(box, size, seen):
    assert within_field(box, size) is seen


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A pair of crops, one smaller than the field and one larger than any, and a scan's edge."""
    tmp_path = tmp_path_factory.mktemp("padding")
    image(tmp_path / "small.nii.gz", (50, 44), 1), image(tmp_path / "large.nii.gz", (140, 150), 2)
    hu = np.random.default_rng(3).integers(-1000, 300, (3, 150, 150))
    write_series(tmp_path / "scan", hu, stack(3))
    point = {"x": -40 + 0.6 * 60, "y": -30 + 0.8 * 75, "z": 102.0}
    table = [
        rows(image="small.nii.gz", split="training"),
        rows(image="large.nii.gz", split="training", study_yr=1),
        rows(patient_id="P2", image="scan", split="training", **point),
    ]
    build(write_table(tmp_path, table), tmp_path / "out", size=128, spacing=None, keep_ids=True)
    return tmp_path


@pytest.fixture
def dataset(made, tmp_path):
    return shutil.copytree(made / "out", tmp_path / "out")


def test_the_dataset_its_card_and_the_check_tell_of_it(dataset, call, tmp_path):
    datalist = json.loads((dataset / "datalist.json").read_text())
    assert datalist["unpadded"] == {
        "crops/P1_1_T0.nii.gz": [39, 89, 42, 86],
        "crops/P2_1_T0.nii.gz": [4, 128, 0, 128],
    }
    assert padding(datalist, "training") == Padding(2, 1, 1) and padding(datalist, "unpaired") == Padding(1, 1, 0)
    card = (dataset / "datasheet.md").read_text()
    assert "Of 3 crops 2 reach beyond their image: 1 are mirrored" in card and "1 have air beyond" in card
    assert "In 1 that lies within the 64 x 64 pixels" in card
    _, shown = call("check", dataset, "--picture", tmp_path / "with.png")
    line = next(line for line in shown.out.splitlines() if line.startswith("Padded"))
    assert "training 1 of 2, 1 of them within the 64 pixels" in line and "unpaired 1 of 1, 0 of them" in line
    del datalist["unpadded"]
    (dataset / "datalist.json").write_text(json.dumps(datalist))
    _, shown = call("check", dataset, "--picture", tmp_path / "without.png")
    assert "Padded" not in shown.out
    assert (tmp_path / "with.png").read_bytes() != (tmp_path / "without.png").read_bytes()


def test_it_is_known_of_reused_crops_too(made, dataset, monkeypatch):
    monkeypatch.setattr(datasheet, "write", lambda *_: None)
    before = (dataset / "datalist.json").read_bytes()
    assert build(made / "cohort.csv", dataset, size=128, spacing=None, keep_ids=True).reused == 3
    assert (dataset / "datalist.json").read_bytes() == before


def test_a_dataset_without_padding_has_no_entry(tmp_path):
    image(tmp_path / "large.nii.gz", (140, 150))
    build(write_table(tmp_path, [rows(image="large.nii.gz", split="training")]), tmp_path / "out", size=128)
    assert "unpadded" not in json.loads((tmp_path / "out" / "datalist.json").read_text())
    assert "No crop reaches beyond its image." in (tmp_path / "out" / "datasheet.md").read_text()


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"crops/none.nii.gz": [0, 128, 0, 128]}, "is no crop of this dataset"),
        ({"crops/P1_1_T0.nii.gz": [0, 129, 0, 128]}, "expected first and end"),
        ({"crops/P1_1_T0.nii.gz": [70, 128, 0, 128]}, "about the middle"),
        ({"crops/P1_1_T0.nii.gz": "all"}, "expected first and end"),
        ({"crops/P1_1_T0.nii.gz": [0, 128, 0]}, "expected first and end"),
    ],
)
def test_impossible_parts_are_found(dataset, entry, words):
    datalist = json.loads((dataset / "datalist.json").read_text())
    (dataset / "datalist.json").write_text(json.dumps(datalist | {"unpadded": entry}))
    assert any(words in finding for finding in examine(dataset).findings)
