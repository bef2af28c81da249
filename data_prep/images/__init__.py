"""CT images as they come, DICOM, NIfTI or MetaImage: headers, slices in HU, and crops of them."""
