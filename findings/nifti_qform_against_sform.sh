#!/usr/bin/env bash
# What happens   Of a NIfTI with both transforms set (codes above 0) and different, nibabel takes the sform, and ITK the
#                qform: the same voxel lies elsewhere for the two. ITK warns only where the sform's scales differ from
#                pixdim, so a changed position or direction passes without a word, unless sform_code is 1 (scanner): then
#                ITK takes the sform too, but keeps pixdim as spacing, a transform that is neither of the two.
# Versions       nibabel 5.4.2, SimpleITK 2.5.7 (ITK 5.4)
# One expects    two readers to agree on where a voxel is, or one to refuse.
# Source         the NIfTI-1 header's comments give the two transforms different purposes and no precedence; nibabel's
#                manual: sform first; ITK: its pull request 1868 (scanner sform before qform) and ANTs's issue 1141.
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

LPS_TO_RAS = np.diag([-1, -1, 1])
print("nibabel", nib.__version__, "SimpleITK", sitk.Version.VersionString())


def read(qform, q_code, sform, s_code):
    """Position in RAS of voxel (1, 2, 3) as each reader has it."""
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), None)
    image.set_qform(qform, q_code)
    image.set_sform(sform, s_code)
    nib.save(image, "a.nii")
    theirs = (nib.load("a.nii").affine @ [1, 2, 3, 1])[:3]
    itk = LPS_TO_RAS @ sitk.ReadImage("a.nii").TransformIndexToPhysicalPoint((1, 2, 3))
    print(f"codes {q_code}, {s_code}: nibabel {theirs.tolist()}, ITK {itk.tolist()}")
    return theirs, itk


def affine(spacing, origin):
    matrix = np.diag([*spacing, 1.0])
    matrix[:3, 3] = origin
    return matrix


scanner = affine((1, 1, 2), (10, 20, 30))  # voxel (1, 2, 3) lies at 11, 22, 36
moved = affine((1, 1, 2), (-50, 20, 30))  # at -49, 22, 36
stretched = affine((2, 2, 4), (10, 20, 30))  # at 12, 24, 42

for code in (2, 4):  # aligned, MNI
    theirs, itk = read(scanner, 1, moved, code)
    assert np.allclose(theirs, [-49, 22, 36]) and np.allclose(itk, [11, 22, 36]), "the readers' choice has changed"
theirs, itk = read(scanner, 1, moved, 1)
assert np.allclose(theirs, itk) and np.allclose(itk, [-49, 22, 36]), "sform_code 1 is treated otherwise now"
theirs, itk = read(scanner, 2, stretched, 1)
assert np.allclose(theirs, [12, 24, 42]) and np.allclose(itk, [11, 22, 36]), "ITK's spacing no longer is pixdim's"
PYTHON
