"""What DICOM demands of an object, by the tables of PS3.3 that come with highdicom: attributes of type 1 and 2."""

from __future__ import annotations

from collections.abc import Iterator

from highdicom._standard_utils import (
    construct_module_tree,
    get_iod_module_map,
    get_sop_class_iod_map,
)
from pydicom.dataset import Dataset

GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
"""A functional group stands in one of them (PS3.3, C.7.6.16)."""


CONDITIONAL = {
    *("PlanePositionSlideSequence", "CardiacSynchronizationSequence", "RespiratorySynchronizationSequence"),
    *("ContrastBolusUsageSequence", "FrameAnatomySequence", "ReferencedImageSequence", "StoredValueColorRangeSequence"),
}
"""Functional groups of other images: of slides, of a beating heart, and the like. The tables do not say when."""

OF_VALUES = {
    **{"ConceptCodeSequence": "CODE", "ContinuityOfContent": "CONTAINER", "MeasuredValueSequence": "NUM"},
    **{"GraphicData": "SCOORD3D", "GraphicType": "SCOORD3D", "ReferencedFrameOfReferenceUID": "SCOORD3D"},
    **{"ReferencedSOPSequence": "IMAGE", "TabulatedValuesSequence": "TABLE", "TemporalRangeType": "TCOORD"},
}
"""Attributes of a report's items, by the type of value that has them."""


def faults(item: Dataset) -> list[str]:
    """Of the modules that its kind must have: what is missing, and what is empty and must not be."""
    modules = get_iod_module_map()[get_sop_class_iod_map()[item.SOPClassUID]]
    needed = [module["key"] for module in modules if module["usage"] == "M"]
    found = {fault for key in needed for fault in _faults(item, construct_module_tree(key)["attributes"], key)}
    return sorted(fault for fault in found if not _elsewhere(item, fault))


def _elsewhere(item: Dataset, fault: str) -> bool:
    """Whether a functional group stands with the other ones: of all frames, or of each."""
    for here, there in (GROUPS, GROUPS[::-1]):
        if f"/{here}/" in fault and fault.endswith(" is missing"):
            keyword = fault.removesuffix(" is missing").split(f"/{here}/")[1]
            return "/" not in keyword and all(keyword in frame for frame in item[there].value)
    return False


def _faults(item: Dataset, tree: dict, place: str) -> Iterator[str]:
    value_type = item.get("ValueType") if "ValueType" in tree else None
    for keyword, told in tree.items():
        kind, here = told["type"].value, f"{place}/{keyword}"
        if keyword in CONDITIONAL or (value_type and OF_VALUES.get(keyword, value_type) != value_type):
            continue
        if keyword not in item:
            if kind in ("1", "2"):
                yield f"{here} is missing"
            continue
        value = item[keyword].value
        if kind == "1" and (value is None or value == "" or (item[keyword].VR == "SQ" and not value)):
            yield f"{here} is empty"
        for each in value if item[keyword].VR == "SQ" else ():
            yield from _faults(each, told.get("attributes", {}), here)
