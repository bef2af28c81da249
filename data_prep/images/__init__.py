"""CT images as they come, DICOM, NIfTI or MetaImage: headers, slices in HU, and crops of them."""

from enum import StrEnum

METAIMAGE = (".mha", ".mhd")

VOLUMES = (".nii", ".nii.gz", *METAIMAGE)
"""Endings of images that are files."""


class Transform(StrEnum):
    """The two places where a NIfTI's header can say how its voxels lie."""

    QFORM = "qform"
    SFORM = "sform"
