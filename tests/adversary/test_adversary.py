"""Data preparation against an adversary: the truth where it can be known, a named refusal where it cannot.

The truth is arithmetic on the arrays that were written, by a writer of the tests' own, which is held against pydicom,
GDCM and SimpleITK. ``benchmarks/adversary.py`` tries many more examples.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import DataError
from data_prep.images import crops
from tests.adversary import judge, scans
from tests.adversary.corruption import KINDS, Example, compatible, corruptions_of
from tests.adversary.judge import RIGHT, judged

itk = pytest.importorskip("SimpleITK", reason="no SimpleITK (pip install SimpleITK)")
SEEDS = st.integers(0, 2**32 - 1)
OFTEN = [kind for kind, times in KINDS.items() for _ in range(times)]


def tried(example: Example) -> judge.Verdict:
    """The verdict on an example, in a folder of its own."""
    with TemporaryDirectory(dir=scratch()) as folder:
        return judged(example, Path(folder))


def scratch() -> str | None:
    """In memory where there is such a place (Linux): what is tried are thousands of small files."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


@st.composite
def examples(draw: st.DrawFn) -> Example:
    """An input with one to three corruptions that can happen together."""
    kind = draw(st.sampled_from(OFTEN))
    chosen = draw(
        st.lists(st.sampled_from(corruptions_of(kind)), min_size=1, max_size=3, unique_by=lambda one: one.name)
    )
    return Example(kind, compatible(chosen), draw(SEEDS))


@settings(max_examples=300, derandomize=True)
@given(example=examples())
def test_the_truth_or_a_named_refusal(example: Example) -> None:
    verdict = tried(example)
    assert verdict.good, f"{example}: {verdict.outcome}: {verdict.detail}"


@settings(max_examples=60, derandomize=True)
@given(kind=st.sampled_from(OFTEN), seed=SEEDS)
def test_nothing_valid_is_refused(kind: str, seed: int) -> None:
    verdict = tried(Example(kind, (), seed))
    assert verdict.outcome == RIGHT, verdict.detail


# --- the reference, by others' readers


PLAIN = ["another transfer syntax", "another slope and intercept", "signed values", "rows that run another way"]
PLAIN += ["the same tags within sequences", "private tags and overlays", "numbers written oddly", "no image type"]


@pytest.mark.parametrize("name", ["", *PLAIN])
def test_the_truth_of_a_series_is_what_gdcm_reads(name: str, tmp_path: Path) -> None:
    """By ITK's reader of a single file, which is GDCM's: HU and place of the voxels about the nodule."""
    for seed in range(4):
        example = Example("series", (name,) if name else (), seed)
        made = judge.made_of(example, Random(seed))
        folder = made.write(tmp_path / str(seed))
        image = itk.ReadImage(str(folder / made.nodule.name))
        truth = made.truth
        column, row, number = truth.voxel
        for dx, dy in ((0, 0), (3, -2), (-5, 4)):
            place = truth.origin + truth.spacing * [column + dx, row + dy, number]
            index = image.TransformPhysicalPointToIndex(place.tolist())
            assert image[index] == truth.hu[number, row + dy, column + dx]


def test_the_truth_of_a_series_is_what_itk_stacks(tmp_path: Path) -> None:
    for seed in range(6):
        made = judge.made_of(Example("series", (), seed), Random(seed))
        folder, truth = made.write(tmp_path / str(seed)), made.truth
        image = itk.ReadImage(itk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
        np.testing.assert_array_equal(itk.GetArrayFromImage(image), truth.hu)
        np.testing.assert_allclose(image.GetOrigin(), truth.origin, atol=1e-4)
        np.testing.assert_allclose(image.GetSpacing(), truth.spacing, atol=1e-4)


@pytest.mark.parametrize("kind", ["nifti", "metaimage"])
@pytest.mark.parametrize(
    "name", ["", "another type of numbers", "a qform alone", "packed values", "a scale in the header"]
)
def test_the_truth_of_a_volume_is_what_others_read(kind: str, name: str, tmp_path: Path) -> None:
    if name and name not in {each.name for each in corruptions_of(kind)}:
        pytest.skip(f"nothing of {kind}")
    for seed in range(4):
        made = judge.made_of(Example(kind, (name,) if name else (), seed), Random(seed))
        path, truth = made.write(tmp_path / str(seed)), made.truth
        image = itk.ReadImage(str(path))
        column, row, number = truth.voxel
        for dx, dy in ((0, 0), (3, -2), (-5, 4)):
            place = truth.origin + truth.spacing * [column + dx, row + dy, number]
            assert image[image.TransformPhysicalPointToIndex(place.tolist())] == truth.hu[number, row + dy, column + dx]
        if kind == "nifti":
            read = nib.load(path)
            np.testing.assert_array_equal(np.asarray(read.dataobj), made.values)
            np.testing.assert_allclose(read.affine, made.affine, atol=1e-3)


# --- the adversary sees what must not be


def test_the_adversary_sees_every_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each outcome that must not be, from a reader that is spoilt on purpose."""
    cut, save = crops.cut, crops.save
    valid, lost = Example("series", (), 5), Example("series", ("slices missing inside",), 5)

    def moved(*arguments):
        crop = cut(*arguments)
        return nib.Nifti1Image(np.roll(np.asarray(crop.dataobj), 1, axis=0), crop.affine, extra=crop.extra)

    def empty(*_):
        told = {"unpadded": [0, scans.SIZE] * 2, "point": None}
        return nib.Nifti1Image(np.zeros((scans.SIZE, scans.SIZE, 1), np.int16), np.eye(4), extra=told)

    def refusing(*arguments):
        raise crops.ImageError(arguments[0], "gantry tilt", "of a head that nods.")

    def telling(crop, target):
        crop.header["db_name"] = scans.SECRETS["StudyDate"].encode()
        return save(crop, target)

    for spoilt, example, outcome in (
        (moved, valid, judge.WRONG),
        (refusing, valid, judge.REFUSED),
        (refusing, lost, judge.OTHER_NAME),
        (lambda image, *_: {}[image], valid, judge.UNFORESEEN),
        (empty, lost, judge.TAKEN),
    ):
        monkeypatch.setattr(crops, "cut", spoilt)
        assert tried(example).outcome == outcome
    monkeypatch.setattr(crops, "cut", cut)
    monkeypatch.setattr(crops, "save", telling)
    assert tried(valid).outcome == judge.TOLD
    monkeypatch.setattr(judge, "read_cohort", lambda path: (_ for _ in ()).throw(DataError("row 99, column x: 3.")))
    assert tried(Example("table", (), 1)).outcome == judge.REFUSED
    assert tried(Example("table", ("a section that is none",), 1)).outcome == judge.OTHER_NAME
