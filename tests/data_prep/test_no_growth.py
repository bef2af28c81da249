"""A real lung at two times without a nodule: crops about the same place look alike, about another one they do not."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest

from data_prep.cohort import build
from tests.data_prep.helpers import EHR

sitk = pytest.importorskip("SimpleITK", reason="no SimpleITK (extra itk)")
TIMES = ("baseline", "followup")
PLACES = 6


@pytest.fixture(scope="module")
def lung(shared_data):
    """The two images, and landmarks (mm, LPS) that lie at least 25 mm inside both, at both times."""
    folder = shared_data / "elastix_lung_pair"
    images = [folder / f"3DCT_lung_{time}.mha" for time in TIMES]
    marks = [np.loadtxt(folder / f"landmarks_{time}_mm.txt", skiprows=2) for time in TIMES]
    inside = np.ones(len(marks[0]), dtype=bool)
    for path, points in zip(images, marks, strict=True):
        image = sitk.ReadImage(str(path))
        low, high = np.array(image.GetOrigin()), np.array(image.GetOrigin())
        high = high + np.array(image.GetSpacing()) * image.GetSize()
        inside &= ((points - low > 25) & (high - points > 25)).all(axis=1)
    return images, [points[inside][:PLACES] for points in marks]


def test_the_pair_through_the_cohort_table(lung, tmp_path):
    images, marks = lung
    rows = [
        {**EHR, "patient_id": "P1", "nodule_id": number, "study_yr": year, "image": image, "split": "training"}
        | dict(zip("xyz", point, strict=True))
        for year, (image, points) in enumerate(zip(images, marks, strict=True))
        for number, point in enumerate(points)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "cohort.csv", index=False)
    made = build(tmp_path / "cohort.csv", tmp_path / "dataset", size=32, spacing=None, keep_ids=True)
    assert made.entries["training"] == PLACES and not made.faults
    cases = json.loads((tmp_path / "dataset" / "datalist.json").read_text())["training"]
    crops = [[hu_of(tmp_path / "dataset" / case[when]) for case in cases] for when in ("baseline", "follow_up")]
    for image, points, cut in zip(images, marks, crops, strict=True):
        for point, crop in zip(points, cut, strict=True):
            assert any(np.array_equal(crop, expected) for expected in by_hand(image, point))
    alike = np.corrcoef([crop[8:24, 8:24].ravel() for cut in crops for crop in cut])[:PLACES, PLACES:]
    assert np.diag(alike).min() > 0.6 and np.array_equal(alike.argmax(axis=1), range(PLACES))


def hu_of(path):
    """A crop as rows and columns, by SimpleITK."""
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[0]


def by_hand(path, point):
    """The 32 x 32 pixels about a point, by SimpleITK, air beyond the image; all that a pixel's edge allows."""
    image = sitk.ReadImage(str(path))
    place = np.array(image.TransformPhysicalPointToContinuousIndex([float(value) for value in point]))
    planes = np.pad(sitk.GetArrayFromImage(image), 16, constant_values=-1024).clip(-1024, 3071)
    nearest = [{int(np.floor(value + 0.5 + tie)) for tie in (-1e-3, 1e-3)} for value in place]
    return [planes[z + 16, y : y + 32, x : x + 32] for x, y, z in itertools.product(*nearest)]
