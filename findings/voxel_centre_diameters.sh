#!/usr/bin/env bash
# What happens   SimpleITK's Feret diameter runs from voxel centre to voxel centre: one voxel has 0, ten of 0.7 mm in a row
#                have 6.3 mm, a square of 5 x 5 (diagonal 4.95 mm) has 3.96. scikit-image runs to the middles of the
#                pixels' edges: 4.48. Neither is the outline's, and they differ by most of a pixel: a tenth of a small
#                nodule. SimpleITK's equivalent ellipsoid of a row of voxels has all diameters 0, though it has a volume.
# Versions       SimpleITK 2.5.7 (ITK 5.4), scikit-image 0.26.0
# One expects    the largest distance between two points of the region, its voxels having a size.
# Source         scikit-image's regionprops names find_contours, hence the edges' middles; ITK's shape label object says
#                "the diameter of the object" and not from where to where.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet SimpleITK==2.5.7 scikit-image==0.26.0 numpy==2.4.6
venv/bin/python - <<'PYTHON'
import math

import numpy as np
import SimpleITK as sitk
import skimage
from skimage.measure import regionprops

PIXEL = 0.7  # mm
print("SimpleITK", sitk.Version.VersionString(), "scikit-image", skimage.__version__)


def shapes(mask):
    image = sitk.GetImageFromArray(mask)
    image.SetSpacing((PIXEL,) * mask.ndim)
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.ComputeFeretDiameterOn()
    shape.Execute(image)
    return shape


for n in (1, 5, 10):
    mask = np.zeros((20, 20), np.uint8)
    mask[4 : 4 + n, 4 : 4 + n] = 1
    itk = shapes(mask).GetFeretDiameter(1)
    ski = regionprops(mask.astype(int), spacing=(PIXEL, PIXEL))[0].feret_diameter_max
    print(f"square of {n}: outline {math.sqrt(2) * n * PIXEL:.2f} mm, SimpleITK {itk:.2f}, scikit-image {ski:.2f}")
    assert math.isclose(itk, math.sqrt(2) * (n - 1) * PIXEL, abs_tol=1e-6), "SimpleITK measures otherwise now"
    assert math.isclose(ski, math.hypot(n, n - 1) * PIXEL, abs_tol=1e-6), "scikit-image measures otherwise now"
row = np.zeros((5, 20, 20), np.uint8)
row[2, 4, 4:14] = 1
shape = shapes(row)
print("row of 10:", shape.GetFeretDiameter(1), shape.GetEquivalentEllipsoidDiameter(1), "volume", shape.GetPhysicalSize(1))
assert math.isclose(shape.GetFeretDiameter(1), 9 * PIXEL, abs_tol=1e-6)
assert shape.GetEquivalentEllipsoidDiameter(1) == (0, 0, 0) and shape.GetPhysicalSize(1) > 3, "it has an ellipsoid now"
PYTHON
