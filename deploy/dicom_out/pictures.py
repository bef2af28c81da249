"""What people look at: the panel as a secondary capture, and by option one slice that a viewer takes for CT."""

from __future__ import annotations

import highdicom as hd
import numpy as np
from highdicom.sc import SCImage
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.Image import open as read_picture
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from scipy import ndimage

from data_prep.errors import ImageError
from data_prep.images.content import HU_RANGE
from data_prep.images.hu import AIR
from deploy.dicom_out.made import Made
from deploy.dicom_out.marks import mark
from deploy.dicom_out.source import Source

LETTERS = ("SYNTHETIC - RESEARCH ONLY", "SYNTHETIC")
"""The longest that there is room for."""

HEIGHT = 1 / 24
"""Of a letter, as a share of the slice's rows."""


def panel(source: Source, made: Made) -> SCImage:
    """panel.png as it is; each of its generated tiles, and its title, say SYNTHETIC."""
    with read_picture(made.folder / "panel.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    item = SCImage.from_ref_dataset(
        source.image,
        pixel_array=pixels,
        photometric_interpretation=hd.PhotometricInterpretationValues.RGB,
        bits_allocated=8,
        coordinate_system=hd.CoordinateSystemNames.PATIENT,
        patient_orientation=("L", "P"),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **made.place(source, "panel", 1, "panel"),
    )
    item.ImageType = ["DERIVED", "SECONDARY"]
    mark(item, source, made, "The baseline beside generated follow-ups.", burned_in=True)
    return item


def ct_slice(source: Source, made: Made) -> hd.SOPClass:
    """The slice with one generated follow-up in it: the run that is nearest to the mean of all.

    Most viewers and routers look at the modality and not at the mark (0008,001C), so SYNTHETIC stands in the pixels,
    outside of what was generated.

    Raises:
        ImageError: the slice has no room for the letters.
    """
    places = source.within(made.affine, made.samples.shape[1:])
    inside = np.isfinite(places[0])
    generated = ndimage.map_coordinates(made.samples[made.typical], np.nan_to_num(places), order=1, mode="nearest")
    known = np.nan_to_num(np.asarray(source.hu.dataobj, dtype=np.float32)[..., 0], nan=AIR)
    hu = np.rint(np.where(inside, generated, known)).clip(-32768, 32767).astype(np.int16)
    pixels = np.ascontiguousarray(_written(source, hu.T, inside.T))
    item = hd.SOPClass(
        **made.place(source, "slice", 6, "slice"),
        study_instance_uid=source.image.StudyInstanceUID,
        sop_class_uid=CTImageStorage,
        modality="CT",
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    for keyword in (
        *("Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "SliceThickness"),
        *("FrameOfReferenceUID", "PositionReferenceIndicator", "PatientPosition", "KVP", "AcquisitionNumber"),
    ):
        setattr(item, keyword, source.image.get(keyword))
    item.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    item.SamplesPerPixel, item.PhotometricInterpretation = 1, "MONOCHROME2"
    item.BitsAllocated, item.BitsStored, item.HighBit, item.PixelRepresentation = 16, 16, 15, 1
    item.RescaleIntercept, item.RescaleSlope, item.RescaleType = 0, 1, "HU"
    item.WindowCenter, item.WindowWidth = -600, 1500
    item.PixelData = pixels.astype("<i2").tobytes()
    words = f"One of {len(made.samples)} generated follow-ups, nearest to their mean, in the slice of the scan."
    mark(item, source, made, words, burned_in=True)
    return item


def _written(source: Source, hu: NDArray[np.int16], inside: NDArray[np.bool_]) -> NDArray[np.int16]:
    """Pixels (rows, columns) with the letters at the top or at the bottom, where nothing was generated."""
    rows, columns = hu.shape
    font = ImageFont.load_default(max(8, rows * HEIGHT))
    canvas = Image.new("L", (columns, rows))
    pen = ImageDraw.Draw(canvas)
    for letters in LETTERS:
        left, top, right, bottom = (round(each) for each in pen.textbbox((0, 0), letters, font=font))
        height, width = bottom - top, right - left
        for row in (2, rows - height - 2):
            box = np.zeros_like(inside)
            box[row : row + height, 2 : 2 + width] = True
            if width + 4 <= columns and not (box & inside).any():
                pen.text((2 - left, row - top), letters, fill=255, font=font)
                drawn = np.asarray(canvas) > 127
                return np.where(drawn, HU_RANGE[1], np.where(box, HU_RANGE[0], hu)).astype(np.int16)
    fault = "it would hide what was generated. Leave the slice out."
    raise ImageError(source.path, "no room for SYNTHETIC in the slice", fault)
