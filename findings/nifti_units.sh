#!/usr/bin/env bash
# What happens   xyzt_units in a NIfTI's header says metre, millimetre or micrometre. ITK scales spacing and origin by it to
#                millimetres; nibabel leaves them as they stand: the same file is read 1,000 times larger or smaller.
#                What nibabel's affine says in micrometres SimpleITK says in millimetres, and a file in metres or
#                micrometres that SimpleITK writes again is in millimetres.
# Versions       nibabel 5.4.2, SimpleITK 2.5.7 (ITK 5.4)
# One expects    one size of a voxel for one file, whatever reads it.
# Source         the NIfTI-1 header's comments on xyzt_units; nibabel documents get_xyzt_units and that affines are in
#                the header's units by implication only.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet nibabel==5.4.2 SimpleITK==2.5.7 numpy==2.4.6
venv/bin/python - <<'PYTHON'
import nibabel as nib
import numpy as np
import SimpleITK as sitk

print("nibabel", nib.__version__, "SimpleITK", sitk.Version.VersionString())
for unit, factor in (("mm", 1), ("meter", 1000), ("micron", 0.001), ("unknown", 1)):
    image = nib.Nifti1Image(np.zeros((2, 3, 4), np.int16), np.diag([1.0, 2, 3, 1]))
    image.header.set_xyzt_units(unit)
    nib.save(image, "a.nii")
    theirs = nib.affines.voxel_sizes(nib.load("a.nii").affine)
    itk = sitk.ReadImage("a.nii")
    sitk.WriteImage(itk, "b.nii")
    again = nib.load("b.nii")
    print(f"{unit}: nibabel {theirs.tolist()}, ITK {itk.GetSpacing()}, written again: {again.header.get_xyzt_units()[0]}")
    assert np.allclose(theirs, [1, 2, 3]), "nibabel scales by the unit now"
    assert np.allclose(itk.GetSpacing(), np.array([1, 2, 3]) * factor, rtol=1e-6), "ITK no longer scales by the unit"
    assert again.header.get_xyzt_units()[0] == "mm" and np.allclose(again.header.get_zooms(), itk.GetSpacing())
PYTHON
