"""DLCSD24's boxes as diameters: one side does not tell which is the longer."""

import numpy as np
import pytest

from data_prep.sources import dlcs


@pytest.mark.parametrize(
    ("columns", "sides", "expected"),
    [
        ("w,h", "6,8", (8, 6)),
        ("w,h", "8,", (np.nan, np.nan)),
        ("w,h", ",8", (np.nan, np.nan)),
        ("w", "8", (np.nan,) * 2),
    ],
)
def test_diameters(tmp_path, columns, sides, expected):
    header = "patient-id,nodule_id,ct_nifti_file,coordX,coordY,coordZ,Malignant_lbl,benchmark_split"
    (tmp_path / "dlcs.csv").write_text(f"{header},{columns}\nP,1,a.nii.gz,1,2,3,0,train,{sides}\n")
    made = dlcs.read(tmp_path / "dlcs.csv")
    np.testing.assert_equal(tuple(made[["sct_long_dia", "sct_perp_dia"]].to_numpy(float)[0]), expected)
