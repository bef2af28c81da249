"""CT images as they come, DICOM, NIfTI or MetaImage: headers, slices in HU, and crops of them."""

METAIMAGE = (".mha", ".mhd")

VOLUMES = (".nii", ".nii.gz", *METAIMAGE)
"""Endings of images that are files."""
