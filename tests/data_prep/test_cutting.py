"""Whether a crop is taken from an earlier run: by the content of every file that it was made from, by nothing else."""

import json
import os
import shutil

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK

from data_prep import datasheet
from data_prep.cohort import build
from data_prep.images import crops
from data_prep.images.files import stamp
from tests.data_prep.helpers import rows, stack, write_series, write_table

CENTRE = {"x": -34.0, "y": -22.0, "z": 102.0}
SHAPE = (3, 20, 20)


def pixels(seed):
    return np.random.default_rng(seed).integers(-1000, 300, SHAPE)


def nifti(path, seed):
    affine = np.diag([-0.6, -0.8, 2.0, 1.0])
    affine[:3, 3] = 40, 30, 100
    nib.save(nib.Nifti1Image(pixels(seed).T.astype(np.int16), affine), path)


def metaimage(path, seed):
    """A header and its ``.raw``, written by SimpleITK."""
    image = SimpleITK.GetImageFromArray(pixels(seed).astype(np.int16))
    image.SetSpacing((0.6, 0.8, 2.0))
    image.SetOrigin((-40.0, -30.0, 100.0))
    SimpleITK.WriteImage(image, str(path), useCompression=False)


def series(path, seed):
    write_series(path, pixels(seed), stack(3))


KINDS = {"a.nii.gz": nifti, "a.nii": nifti, "a.mhd": metaimage, "a.mha": metaimage, "a": series}


@pytest.fixture(autouse=True)
def no_card(monkeypatch):
    """Its drawing takes longer than all else."""
    monkeypatch.setattr(datasheet, "write", lambda *_: None)


def files_of(image):
    """The files that an image is read from."""
    return [(image if image.is_dir() else image.parent) / name for name, *_ in stamp(image)]


def table(folder, *names):
    images = enumerate(names)
    return write_table(folder, [rows(patient_id=f"P{n}", image=name, split="training", **CENTRE) for n, name in images])


def made(folder):
    """What the dataset's crops show, by patient."""
    return {
        path.name[:2]: np.asarray(nib.load(path).dataobj)[..., 0].T for path in (folder / "out" / "crops").iterdir()
    }


def run(folder, cohort):
    return build(cohort, folder / "out", size=8, spacing=None, keep_ids=True)


def expected(seed):
    """By hand: the middle slice, eight pixels about column 10 and row 10."""
    return pixels(seed)[1, 6:14, 6:14]


@pytest.mark.parametrize("name", KINDS)
def test_two_images_that_changed_places_by_mv(tmp_path, name):
    other = f"b{name[1:]}"
    KINDS[name](tmp_path / name, 1), KINDS[name](tmp_path / other, 2)
    cohort = table(tmp_path, name, other)
    assert run(tmp_path, cohort).written == 2
    before = made(tmp_path)
    np.testing.assert_array_equal(before["P0"], expected(1))
    pairs = [(name, other)] if name != "a.mhd" else [("a.raw", "b.raw")]
    for one, two in pairs:
        os.rename(tmp_path / one, tmp_path / "c"), os.rename(tmp_path / two, tmp_path / one)
        os.rename(tmp_path / "c", tmp_path / two)
    run(tmp_path, cohort)
    np.testing.assert_array_equal(made(tmp_path)["P0"], expected(2))
    np.testing.assert_array_equal(made(tmp_path)["P1"], expected(1))


@pytest.mark.parametrize("name", KINDS)
def test_an_older_image_of_the_same_size_put_in_place(tmp_path, name):
    """As by rsync or tar, which keep the times of change."""
    KINDS[name](tmp_path / name, 1)
    (tmp_path / "old").mkdir()
    KINDS[name](tmp_path / "old" / name, 2)
    cohort = table(tmp_path, name)
    run(tmp_path, cohort)
    for new, old in zip(files_of(tmp_path / name), files_of(tmp_path / "old" / name), strict=True):
        os.utime(old, (1e9, 1e9))
        shutil.copy2(old, new)
    run(tmp_path, cohort)
    np.testing.assert_array_equal(made(tmp_path)["P0"], expected(2))


def test_times_set_back_do_not_hide_new_pixels(tmp_path):
    nifti(tmp_path / "a.nii", 1)
    cohort = table(tmp_path, "a.nii")
    run(tmp_path, cohort)
    state = (tmp_path / "a.nii").stat()
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[352:] = content[352:][::-1]
    with open(tmp_path / "a.nii", "r+b") as file:  # the same inode, size and time of writing
        file.write(content)
    os.utime(tmp_path / "a.nii", ns=(state.st_atime_ns, state.st_mtime_ns))
    assert run(tmp_path, cohort).written == 1


@pytest.mark.parametrize("change", ["copy", "touch", "link"])
@pytest.mark.parametrize("name", KINDS)
def test_the_same_content_elsewhere_keeps_the_crops(tmp_path, name, change):
    """A copy, another file system or new times do not count as cut, and not a byte of the crops is another one."""
    (tmp_path / "one").mkdir()
    KINDS[name](tmp_path / "one" / name, 1)
    run(tmp_path, table(tmp_path, f"one/{name}"))
    before = {path.name: path.read_bytes() for path in (tmp_path / "out" / "crops").iterdir()}
    if change == "copy":
        shutil.copytree(tmp_path / "one", tmp_path / "two")
    elif change == "link":
        (tmp_path / "two").symlink_to(tmp_path / "one")
    else:
        (tmp_path / "one").rename(tmp_path / "two")
        for path in files_of(tmp_path / "two" / name):
            os.utime(path)
    again = run(tmp_path, table(tmp_path, f"two/{name}"))
    assert (again.written, again.reused) == (0, 1)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out" / "crops").iterdir()} == before


def test_untouched_images_are_not_read(tmp_path, monkeypatch):
    series(tmp_path / "a", 1), metaimage(tmp_path / "b.mhd", 2)
    cohort = table(tmp_path, "a", "b.mhd")
    run(tmp_path, cohort)
    monkeypatch.setattr(crops, "cut", lambda *_: pytest.fail("an image was read"))
    again = run(tmp_path, cohort)
    assert (again.written, again.reused) == (0, 2)


def test_one_slice_of_a_series_is_written_anew(tmp_path):
    series(tmp_path / "a", 1)
    cohort = table(tmp_path, "a")
    run(tmp_path, cohort)
    for path in (tmp_path / "a").iterdir():
        item = pydicom.dcmread(path)
        if item.ImagePositionPatient[2] == 102:
            item.PixelData = (pixels(7)[1] + 1024).astype("<u2").tobytes()
            item.save_as(path)
    run(tmp_path, cohort)
    np.testing.assert_array_equal(made(tmp_path)["P0"], expected(7))


def test_crops_that_changed_places_in_the_dataset(tmp_path):
    nifti(tmp_path / "a.nii", 1), nifti(tmp_path / "b.nii", 2)
    cohort = table(tmp_path, "a.nii", "b.nii")
    run(tmp_path, cohort)
    folder = tmp_path / "out" / "crops"
    (folder / "P0_1_T0.nii.gz").rename(folder / "c"), (folder / "P1_1_T0.nii.gz").rename(folder / "P0_1_T0.nii.gz")
    (folder / "c").rename(folder / "P1_1_T0.nii.gz")
    run(tmp_path, cohort)
    np.testing.assert_array_equal(made(tmp_path)["P0"], expected(1))


def test_a_series_that_changes_within_one_program(tmp_path):
    """The headers of the last series are kept in memory, as long as their files stay."""
    series(tmp_path / "a", 1)
    centre = [*CENTRE.values()]
    first = crops.cut(tmp_path / "a", centre, 8)
    shutil.rmtree(tmp_path / "a")
    write_series(tmp_path / "a", pixels(1), stack(3, origin=(-40.6, -30.0, 100.0)))
    second = crops.cut(tmp_path / "a", centre, 8)
    np.testing.assert_array_equal(np.asarray(second.dataobj)[:-1], np.asarray(first.dataobj)[1:])


@pytest.mark.parametrize(
    ("header", "files"),
    [
        ("ElementDataFile = LOCAL", []),
        ("ElementDataFile = a b.raw", ["a b.raw"]),
        ("ElementDataFile = s%02d.raw 1 2 1", ["s01.raw", "s02.raw"]),
        ("ElementDataFile = LIST\ns02.raw\ns01.raw", ["s02.raw", "s01.raw"]),
        ("Comment = none", []),
    ],
)
def test_every_file_of_a_metaimage_counts(tmp_path, header, files):
    path = tmp_path / "a.mhd"
    path.write_text(f"NDims = 3\n{header}\n")
    for name in ("a b.raw", "s01.raw", "s02.raw"):
        (tmp_path / name).write_text("x")
    assert [each.name for each in files_of(path)] == ["a.mhd", *files]
    before = stamp(path)
    for name in files:
        (tmp_path / name).write_text("xy")
        assert stamp(path) != before
        before = stamp(path)
    for name in files:
        (tmp_path / name).unlink()  # whoever reads it says that it is not there
        assert stamp(path) != before


def test_what_the_dataset_says_of_how_it_was_made_can_be_lost(tmp_path):
    nifti(tmp_path / "a.nii", 1)
    cohort = table(tmp_path, "a.nii")
    run(tmp_path, cohort)
    record = tmp_path / "out" / "crops.jsonl"
    assert (
        set(json.loads(record.read_text())) >= {"crop", "seen"} and "nii" not in json.loads(record.read_text())["seen"]
    )
    for content in ('{"crop": "half', '{"other": 1}\n', ""):
        record.write_text(content)
        assert run(tmp_path, cohort).reused == 1
