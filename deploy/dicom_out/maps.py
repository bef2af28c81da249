"""Where pixels were replaced, and what the runs tell of each: a segmentation and two parametric maps.

The segmentation has the slice's own pixels. The maps have those that were generated, since resampled ones would not be
what the model made; position, spacing and frame of reference say where they lie.
"""

from __future__ import annotations

from typing import Any

import highdicom as hd
import numpy as np
from highdicom.pm import ParametricMap, RealWorldValueMapping
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from numpy.typing import NDArray
from pydicom.sr.codedict import codes

from data_prep.images.dicom import LPS_TO_RAS
from deploy.dicom_out.made import Made
from deploy.dicom_out.marks import algorithm, mark
from deploy.dicom_out.source import Source

PER_HU = 16
"""Stored steps a HU: 65,536 of them span the 4,096 HU of CT."""

LOWEST_HU = {"mean": -1024, "standard deviation": 0}
"""HU of a stored 0."""

WINDOWS = {"mean": (-600, 1500), "standard deviation": (100, 200)}
"""Middle and width that a viewer opens with, HU."""


def segmentation(source: Source, made: Made) -> Segmentation:
    """The pixels of the slice whose middle lies in what was generated, as a BINARY segmentation."""
    inside = np.isfinite(source.within(made.affine, made.samples.shape[1:])[0])
    uid, identifier = made.tracking(source)
    described = SegmentDescription(
        segment_number=1,
        segment_label="Replaced by generated pixels",
        segmented_property_category=codes.SCT.SpatialAndRelationalConcept,
        segmented_property_type=codes.DCM.ImageRegion,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm({}),
        tracking_id=identifier,
        tracking_uid=uid,
    )
    item = Segmentation(
        source_images=[source.image],
        pixel_array=inside.T[None],
        pixel_measures=_measures(source, source.hu.affine),
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[described],
        content_label="REPLACED",
        content_description="Pixels that were replaced by generated ones",
        **made.place(source, "replaced", 2, "region"),
    )
    mark(item, source, made, "Region of the slice in which a follow-up was generated.", burned_in=False)
    return item


def mean(source: Source, made: Made) -> ParametricMap:
    """The mean of all runs, HU."""
    return _map(source, made, made.samples.mean(axis=0), "mean", made.place(source, "mean", 3, "maps", 1))


def deviation(source: Source, made: Made) -> ParametricMap:
    """The standard deviation over all runs, HU."""
    place = made.place(source, "deviation", 3, "maps", 2)
    return _map(source, made, made.samples.std(axis=0), "standard deviation", place)


def _map(source: Source, made: Made, hu: NDArray[np.float32], name: str, place: dict[str, Any]) -> ParametricMap:
    """A map (x, y) as uint16 with slope and intercept, on the grid that was generated."""
    lowest = LOWEST_HU[name]
    stored = np.rint((hu.astype(float) - lowest) * PER_HU).clip(0, 65535).astype(np.uint16)
    mapping = RealWorldValueMapping(
        lut_label=name.split()[-1].upper()[:16],
        lut_explanation=f"{name} of {len(made.samples)} generated follow-ups",
        unit=codes.UCUM.HounsfieldUnit,
        value_range=(0, 65535),
        slope=1 / PER_HU,
        intercept=lowest,
    )
    lps = LPS_TO_RAS @ made.affine
    middle, width = WINDOWS[name]
    item = ParametricMap(
        source_images=[source.image],
        pixel_array=stored.T[None],
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[hd.VOILUTTransformation((middle - lowest) * PER_HU, width * PER_HU)],
        pixel_measures=_measures(source, made.affine),
        plane_orientation=hd.PlaneOrientationSequence(
            hd.CoordinateSystemNames.PATIENT, [*_direction(lps[:3, 0]), *_direction(lps[:3, 1])]
        ),
        plane_positions=[hd.PlanePositionSequence(hd.CoordinateSystemNames.PATIENT, lps[:3, 3].tolist())],
        content_label=name.split()[-1].upper()[:16],
        content_description=f"{name} of generated follow-ups, HU",
        derivation=codes.SCT.Mean if name == "mean" else codes.SCT.StandardDeviation,
        **place,
    )
    mark(item, source, made, f"The {name} of {len(made.samples)} generated follow-ups.", burned_in=False)
    return item


def _measures(source: Source, affine: NDArray[np.float64]) -> hd.PixelMeasuresSequence:
    """Of a grid (x, y, slice); DICOM names the distance between rows first."""
    columns, rows, slices = (float(each) for each in np.linalg.norm(affine[:3, :3], axis=0))
    return hd.PixelMeasuresSequence(
        pixel_spacing=[rows, columns],
        slice_thickness=float(source.image.get("SliceThickness") or slices),
        spacing_between_slices=slices,
    )


def _direction(axis: NDArray[np.float64]) -> list[float]:
    return (axis / np.linalg.norm(axis)).tolist()
