"""One pixel spacing for all crops: an unchanged nodule does not grow, whatever the pixels of its two scans are."""

import itertools
import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from data_prep.check import examine
from data_prep.cohort import build
from data_prep.errors import DataError
from data_prep.images.crops import cut
from data_prep.spacing import other_pixels, spacing_of, unequal_pixels
from tests.data_prep.helpers import EHR

PIXELS = (0.4, 0.5, 0.57, 0.65, 0.75, 0.9, 1.0)
"""mm, of the scans of one nodule, in each of which its middle lies elsewhere between pixels."""
DIAMETERS = (5.3, 8.0, 11.2, 17.0)
OVER = 7
"""Points of the scanned object along each side of a pixel."""


def scanned(diameter, pixel, rng, shape, level=40.0):
    """A lobulated nodule in lung, its middle between pixels: integrated over each, and blurred as by a scanner.

    Returns HU, (columns, rows), and the nodule's place in pixels.
    """
    count, step = int(46 / pixel), pixel / OVER
    place = count / 2 + rng.uniform(-0.5, 0.5, 2)
    x, y = (pixel * (((np.arange(count * OVER) + 0.5) / OVER - 0.5) - at) for at in place)
    angle = np.arctan2(y[None], x[:, None])
    waves = sum(size * np.cos(n * angle - turn) for (n, size), turn in zip(((2, 0.12), (3, 0.05)), shape, strict=True))
    hu = np.where(np.hypot(x[:, None], y) <= diameter / 2 * (1 + waves), level, -860.0)
    hu = ndimage.gaussian_filter(hu, 0.5 / step).reshape(count, OVER, count, OVER).mean(axis=(1, 3))
    return hu.round().astype(np.int16), place


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Each nodule seven times, in scans of other pixels each."""
    folder, rng, rows = tmp_path_factory.mktemp("spacing"), np.random.default_rng(4), []
    for nodule, diameter in enumerate(DIAMETERS):
        shape = rng.uniform(0, 2 * np.pi, 2)
        for time, pixel in enumerate(PIXELS):
            hu, place = scanned(diameter, pixel, rng, shape)
            path = folder / f"{nodule}_{time}.nii.gz"
            nib.save(nib.Nifti1Image(np.repeat(hu[..., None], 3, axis=2), np.diag([-pixel, -pixel, 2.0, 1.0])), path)
            x, y = (float(each) for each in pixel * place)
            row = {"patient_id": f"P{nodule}", "nodule_id": 1, "image": path.name, "x": x, "y": y, "z": 2.0}
            rows.append({**EHR, **row, "study_yr": time, "split": "training"})
    pd.DataFrame(rows).to_csv(folder / "cohort.csv", index=False)
    return folder / "cohort.csv"


def made(table, out, spacing):
    """Crops by nodule and time, and the dataset's datalist."""
    build(table, out, size=64, keep_ids=True, **({} if spacing == "default" else {"spacing": spacing}))
    names = itertools.product(range(len(DIAMETERS)), range(len(PIXELS)))
    crops = [nib.load(out / "crops" / f"P{nodule}_1_T{time}.nii.gz") for nodule, time in names]
    return crops, json.loads((out / "datalist.json").read_text())


def grown(crops, millimetres):
    """By how many mm the evaluation sees each nodule's mean diameter grow between any two scans, (nodules, pairs)."""
    mean = mean_diameters(crops, millimetres).reshape(len(DIAMETERS), len(PIXELS))
    return np.stack([mean[:, n] - mean[:, m] for m, n in itertools.permutations(range(len(PIXELS)), 2)], axis=1)


def mean_diameters(crops, millimetres):
    """The nodules' mean diameters in mm, as the evaluation measures them."""
    from scripts.data.transforms import from_hu
    from scripts.evaluation.nodules.growth import measure

    images = np.stack([from_hu(np.asarray(crop.dataobj, dtype=float).transpose(2, 0, 1)) for crop in crops])
    sizes = measure(images[None], np.full((len(crops), 2), millimetres))
    assert sizes.found.all() and not sizes.cut.any()
    return sizes.mean[0]


def test_a_nodule_that_did_not_change_has_not_grown(table, tmp_path):
    """Each nodule's mean diameter is the same within 0.2 mm between any two spacings, and on average within 0.12 mm."""
    crops, datalist = made(table, tmp_path / "out", "default")
    assert datalist["pixel_mm"] == 0.5
    assert all(np.allclose(np.diag(crop.affine)[:2], -0.5, rtol=1e-3) for crop in crops)
    growth = grown(crops, 0.5)
    assert np.abs(growth.mean(axis=0)).max() < 0.12 and np.abs(growth).max() < 0.2
    assert not [
        text for text in examine(tmp_path / "out").notes + examine(tmp_path / "out").findings if "pixels" in text
    ]


@pytest.mark.parametrize("level", [40.0, -550.0], ids=["solid", "ground glass"])
def test_no_single_nodule_that_did_not_change_has_grown(level, tmp_path):
    """Nodules of any size and form, wherever their middle lies between a scan's pixels: within 0.2 mm, each of them."""
    rng, mean = np.random.default_rng(7), []
    for diameter in np.geomspace(4, 24, 6):
        shape = rng.uniform(0, 2 * np.pi, 2)
        crops = []
        for pixel in PIXELS:
            hu, place = scanned(diameter, pixel, rng, shape, level)
            path = tmp_path / "scan.nii.gz"
            nib.save(nib.Nifti1Image(np.repeat(hu[..., None], 3, axis=2), np.diag([-pixel, -pixel, 2.0, 1.0])), path)
            crops.append(cut(path, (*(pixel * place), 2.0), 64, 0.5))
        mean.append(mean_diameters(crops, 0.5))
    assert np.ptp(mean, axis=1).max() < 0.2


def test_without_one_spacing_it_seems_to_have_grown(table, tmp_path):
    """To a network, which sees pixels alone; the check says so, and pixels are the scanner's own."""
    crops, datalist = made(table, tmp_path / "out", None)
    assert datalist["pixel_mm"] is None
    for pixel, crop in zip(itertools.cycle(PIXELS), crops, strict=False):
        np.testing.assert_allclose(np.diag(crop.affine)[:2], -pixel, rtol=1e-5)
    assert np.abs(grown(crops, 0.5).mean(axis=0)).max() > 2.0
    (note,) = [text for text in examine(tmp_path / "out").notes if "pixels" in text]
    assert note.startswith("in 24 of 24 pairs the follow-up's pixels") and "1.11 to 1.25 times as large" in note


@pytest.mark.parametrize(
    ("pixel_mm", "words"),
    [(0.5, ""), (None, ""), (0.7, "1 of 1 crops have other pixels"), ("0.5", "expected mm"), (0, "expected mm")],
)
def test_what_the_datalist_says_is_held_against_the_crops(pixel_mm, words):
    found = other_pixels({"pixel_mm": pixel_mm}, {"a.nii.gz": (0.5, 0.5)})
    assert bool(found) is bool(words) and all(words in text for text in found)
    assert not other_pixels({}, {"a.nii.gz": (0.5, 0.5)})  # as datasets of earlier versions


def test_pairs_without_a_file_are_no_pairs():
    datalist = {
        "training": [{"baseline": "a", "follow_up": "b"}, {"baseline": "a"}, {"baseline": "a", "follow_up": "c"}]
    }
    assert not unequal_pixels(datalist, {"a": (0.5, 0.5), "c": (0.502, 0.502)})


@pytest.mark.parametrize("text", ["", "0", "-1", "0,5", "nan", "inf", "fine", "9"])
def test_what_is_no_spacing(text, call, tmp_path):
    with pytest.raises(DataError, match="expected mm between pixels"):
        spacing_of(text)
    assert spacing_of(" None ") is None and spacing_of("0.62") == 0.62
    code, shown = call("cohort", tmp_path / "t.csv", "--out", tmp_path / "out", "--spacing", text)
    assert code == 2 and shown.err.count("\n") == 1 and not list(tmp_path.iterdir())
