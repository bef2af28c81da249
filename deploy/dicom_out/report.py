"""The numbers of a result as a structured report (PS3.16, TID 1500), preliminary and unverified.

Sizes have standard codes. What no standard names, the change of a diameter and doublings a year, has codes of this
program's own, since under the code of a diameter its change would be read as one.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from highdicom.sr import (
    AlgorithmIdentification,
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    Measurement,
    MeasurementProperties,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    TextContentItem,
    TimePointContext,
    TrackingIdentifier,
)
from highdicom.sr.coding import CodedConcept
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from data_prep.version import VERSION
from deploy.dicom_out.made import MANUFACTURER, MODEL, Made
from deploy.dicom_out.marks import mark, statement
from deploy.dicom_out.scheme import INTERVAL, SCHEME, own_code
from deploy.dicom_out.source import Source

OBSERVER = generate_uid(entropy_srcs=["NAMD observer"])
"""Of this program, wherever it runs."""

CT_CHEST = CodedConcept("24627-2", "LN", "CT Chest")

CHANGES = {
    "long": own_code("change-long", "Change of the long diameter"),
    "perpendicular": own_code("change-perp", "Change of the perpendicular diameter"),
    "mean": own_code("change-mean", "Change of the mean diameter"),
}
DOUBLINGS = own_code("doublings", "Volume doublings a year")
GROWING = own_code("runs-growing", "Share of generated follow-ups that grow by Lung-RADS")


def report(source: Source, made: Made) -> Comprehensive3DSR:
    """The interval, probabilities side by side, growth with its spread, and flags."""
    result = made.result
    interval = Measurement(own_code(*INTERVAL), result["interval_days"], codes.UCUM.Day)
    numbers = [interval, *probabilities(result), *_growth(result["growth"])]
    groups = [_group(source, made, "Generated follow-up", numbers)]
    if sizes := [*_baseline(result["growth"])]:
        groups.append(_group(source, made, "Baseline", sizes))
    observer = DeviceObserverIdentifyingAttributes(
        uid=OBSERVER, name=MODEL, manufacturer_name=MANUFACTURER, model_name=MODEL, serial_number=made.weights
    )
    content = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=ObserverContext(codes.DCM.Device, observer)),
        procedure_reported=CT_CHEST,
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    for text in (statement(source, made), *_cautions(result)):
        item = TextContentItem(codes.DCM.Comment, plain(text), RelationshipTypeValues.CONTAINS)
        content[0].ContentSequence.append(item)
    place = made.place(source, "report", 4, "report")
    document = Comprehensive3DSR(evidence=[source.image], content=content[0], **place)
    document.PreliminaryFlag = "PRELIMINARY"
    document.CodingSchemeIdentificationSequence = [_own_scheme()]
    mark(document, source, made, "Numbers of generated follow-ups.")
    return document


def probabilities(result: Mapping[str, Any]) -> Iterator[Measurement]:
    """One a method, the best on held-out cases first; what could not be computed stands among the comments."""
    simulated = ", simulated" if result["held_out_cases"]["simulated"] else ""
    for each in result["methods"]:
        if "not_computable" in each:
            continue
        calibrated = each["probability"] is not None
        held_out = each["held_out"] or {}
        auroc = held_out.get("auroc")
        known = [f"held-out AUROC {auroc:.2f}, n {held_out['n']}{simulated}"] if auroc else []
        yield Measurement(
            name=codes.DCM.ProbabilityOfCancer,
            value=_percent(each["probability"] if calibrated else each["uncalibrated"]),
            unit=codes.UCUM.Percent,
            algorithm_id=_algorithm(each["title"], ["calibrated" if calibrated else "not calibrated", *known]),
        )
        if (spread := each.get("runs", {}).get("sd")) is not None:
            yield Measurement(
                name=codes.DCM.ProbabilityOfCancer,
                value=_percent(spread),
                unit=codes.UCUM.Percent,
                derivation=codes.SCT.StandardDeviation,
                algorithm_id=_algorithm(each["title"], ["over generated follow-ups, not calibrated"]),
            )


def plain(text: str) -> str:
    """A text in ASCII, which every character set of DICOM holds.

    >>> plain("523 mm³ ± 2")
    '523 mm3 +/- 2'
    """
    known = unicodedata.normalize("NFKD", text.replace("±", "+/-").replace("×", "x"))
    return known.encode("ascii", "ignore").decode()


def _group(source: Source, made: Made, time_point: str, measurements: list[Measurement]) -> Any:
    """What was measured of the nodule at one time; it is the same nodule at each."""
    image = source.image
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(*made.tracking(source)),
        time_point_context=TimePointContext(time_point),
        finding_type=codes.SCT.Nodule,
        measurements=measurements,
        source_images=[SourceImageForMeasurementGroup(image.SOPClassUID, image.SOPInstanceUID)],
    )


def _growth(size: Mapping[str, Any]) -> Iterator[Measurement]:
    """Changes over the runs."""
    if "not_measurable" in size:
        return
    for axis, spread in size["change_mm"].items():
        yield _median(CHANGES[axis], spread, codes.UCUM.Millimeter)
    yield _median(codes.SCT.Volume, size["volume_mm3"]["generated"], codes.UCUM.CubicMillimeter)
    yield _median(DOUBLINGS, size["doublings_per_year"], codes.UCUM.NoUnits)
    share = _percent(size["lung_rads"]["share_of_runs_that_grow"])
    yield Measurement(GROWING, share, codes.UCUM.Percent, algorithm_id=_algorithm("generated follow-ups", []))


def _baseline(size: Mapping[str, Any]) -> Iterator[Measurement]:
    """Sizes before, of the scan itself."""
    if "not_measurable" in size:
        return
    named = {"long": codes.SCT.LongAxis, "perpendicular": codes.SCT.ShortAxis}
    for axis, name in named.items():
        yield Measurement(
            name, size["baseline_mm"][axis], codes.UCUM.Millimeter, algorithm_id=_algorithm("outline", [])
        )
    yield Measurement(
        codes.SCT.Volume,
        size["volume_mm3"]["baseline"],
        codes.UCUM.CubicMillimeter,
        algorithm_id=_algorithm(size["volume_mm3"]["from"], []),
    )


def _median(name: Any, spread: Mapping[str, Any], unit: Any) -> Measurement:
    """A median over the runs, and how far the ends of the 90 % interval lie from it."""
    held, middle = spread.get("held_out90"), spread["median"]
    ends, of_what = held or spread["interval90"], "new patients, by held-out nodules" if held else "them"
    range_ = ends and MeasurementProperties(
        upper_measurement_uncertainty=ends[1] - middle, lower_measurement_uncertainty=middle - ends[0]
    )
    return Measurement(
        name=name,
        value=middle,
        unit=unit,
        derivation=codes.SCT.Median,
        properties=range_ or None,
        algorithm_id=_algorithm("generated follow-ups", [f"range: 90 % of {of_what}"] if ends else []),
    )


def _percent(share: float) -> float:
    """To five digits, as result.json has them."""
    return float(f"{100 * share:.5g}")


def _algorithm(name: str, parameters: list[str]) -> AlgorithmIdentification:
    return AlgorithmIdentification(
        name=plain(name),
        version=VERSION,
        parameters=[plain(each) for each in parameters] or None,
        family=codes.DCM.ArtificialIntelligence,
        manufacturer=MANUFACTURER,
    )


def _cautions(result: Mapping[str, Any]) -> Iterator[str]:
    """In sentences: on which cases methods were held; what could not be said, and why; flags; what weights lack."""
    from scripts.results.page import held_out_in_words

    yield held_out_in_words(result)
    for each in result["methods"]:
        if "not_computable" in each:
            yield f"No probability by {each['title']}: {each['not_computable']}."
    if reason := result["growth"].get("not_measurable"):
        yield f"Growth is not measured: {reason}."
    for flag in result["flags"]:
        yield f"Flag: {flag}"
    for lacking in result["lacking"]:
        yield f"Lacking: {lacking}."


def _own_scheme() -> Any:
    from highdicom.coding_schemes import CodingSchemeIdentificationItem

    return CodingSchemeIdentificationItem(SCHEME, name="NAMD", version=VERSION, responsible_organization="NAMD")
