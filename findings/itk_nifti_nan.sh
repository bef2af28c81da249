#!/usr/bin/env bash
# What happens   SimpleITK reads NaN and infinity in a NIfTI of floating-point numbers as 0, without a warning. In a CT in HU,
#                where NaN often stands for what lies outside the field of view, 0 is water.
# Versions       SimpleITK 2.5.7, nibabel 5.4.2
# One expects    NaN, as nibabel reads, and as SimpleITK itself keeps it in MetaImage and NRRD.
# Source         the NIfTI-1 standard does not forbid NaN; the C library that ITK reads with looks through floating-point data and
#                puts 0 in place of what is not finite (nifti_read_buffer).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet SimpleITK==2.5.7 nibabel==5.4.2 numpy==2.4.6
venv/bin/python - <<'PYTHON'
import nibabel as nib
import numpy as np
import SimpleITK as sitk

print("SimpleITK", sitk.Version_VersionString(), "nibabel", nib.__version__)
values = np.array([-1000, np.nan, np.inf, -700], dtype=np.float32)
nib.save(nib.Nifti1Image(values.reshape(4, 1, 1), np.eye(4)), "ct.nii.gz")
image = sitk.GetImageFromArray(values.reshape(1, 1, 4))
for name in ("ct.mha", "ct.nrrd"):
    sitk.WriteImage(image, name)

seen = {name: sitk.GetArrayFromImage(sitk.ReadImage(name)).ravel() for name in ("ct.nii.gz", "ct.mha", "ct.nrrd")}
stored = np.asanyarray(nib.load("ct.nii.gz").dataobj).ravel()
print("stored, by nibabel", stored)
for name, numbers in seen.items():
    print("SimpleITK", name, numbers)
np.testing.assert_array_equal(stored, values)
np.testing.assert_array_equal(seen["ct.mha"], values)
np.testing.assert_array_equal(seen["ct.nrrd"], values)
np.testing.assert_array_equal(seen["ct.nii.gz"], [-1000, 0, 0, -700], "NIfTI's numbers that are not finite are kept now")
PYTHON
