"""What objects take from a result: UIDs that follow from the case, the runs, the typical one."""

from dataclasses import replace

import numpy as np
import pytest

from deploy.dicom_out import open_source
from deploy.dicom_out.made import Made
from tests.deploy.scans import POINT


def test_uids_follow_from_the_key(objects):
    made, again, other = (Made(objects.case_dir, key) for key in ("key", "key", "other"))
    assert made.uid("object", "panel") == again.uid("object", "panel") != other.uid("object", "panel")
    assert made.uid("object", "panel") != made.uid("series", "panel") and made.uid("a").is_valid
    for name, entry in objects.content["objects"].items():
        assert entry["sop_instance_uid"] == made.object_uid(name.removesuffix(".dcm")), name


def test_runs_and_the_typical_one(objects):
    """0, 3 and 12 HU more than the crop: their mean is 5, and 3 the nearest."""
    made = Made(objects.case_dir, "key")
    assert made.samples.shape == (3, 64, 64) and made.typical == 1
    assert np.array_equal(made.samples[2] - made.samples[0], np.full((64, 64), 12))
    assert np.diag(made.affine) == pytest.approx([-0.5, -0.5, 2, 1]) and len(made.weights) == 16


def test_nodules_of_one_scan_are_told_apart(objects):
    """In a description of 64 letters at most, whose mark stands first."""
    source, made = open_source(objects.series, POINT), Made(objects.case_dir, "key")

    def described(*point):
        return made.place(replace(source, point=point), "replaced", 2, "region")["series_description"]

    assert described(-1234.56, -2000.04, 0.0) == "SYNTHETIC region at -1234.6, -2000, 0 mm, research only"
    assert described(*[-1234.5] * 3) == "SYNTHETIC region at -1234.5, -1234.5, -1234.5 mm, research only"
    assert len(described(*[-98765.4] * 3)) == 64
