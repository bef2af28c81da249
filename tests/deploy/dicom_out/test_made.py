"""What objects take from a result: UIDs that follow from the case, the runs, the typical one."""

import numpy as np
import pytest

from deploy.dicom_out.made import Made


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
