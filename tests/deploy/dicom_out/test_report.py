"""The report has the numbers of result.json, by code, and stays preliminary."""

import json
import shutil

import pytest

from deploy.dicom_out import open_source
from deploy.dicom_out.made import Made
from deploy.dicom_out.report import plain, report
from scripts.results.page import held_out_in_words
from tests.deploy.results import CHANGES, DOUBLINGS, RESULT, VOLUME
from tests.deploy.scans import POINT

RANGES = ("371885007", "371886008")
"""How far down and up a number may lie, which stand below it."""


def items(item):
    """All content items below one."""
    for each in item.get("ContentSequence", []):
        yield each
        yield from items(each)


def numbers(document):
    """Code, value and unit of each number, with the codes and texts below it."""
    for item in items(document):
        if item.ValueType == "NUM" and item.ConceptNameCodeSequence[0].CodeValue not in RANGES:
            value = item.MeasuredValueSequence[0]
            below = {each.ConceptNameCodeSequence[0].CodeMeaning: each for each in item.get("ContentSequence", [])}
            name = item.ConceptNameCodeSequence[0]
            unit = value.MeasurementUnitsCodeSequence[0].CodeValue
            yield (name.CodeValue, name.CodingSchemeDesignator), float(value.NumericValue), unit, below


def test_probabilities_side_by_side(objects):
    found = [each for each in numbers(objects.read("report")) if each[0] == ("111047", "DCM")]
    assert [(value, unit) for _, value, unit, _ in found] == [(42.049, "%"), (71.631, "%"), (2.7368, "%")]
    assert [below["Algorithm Name"].TextValue for *_, below in found][:2] == [
        *("the record alone", "generated follow-ups, read by the judge"),
    ]
    assert [below["Algorithm Parameters"].TextValue for *_, below in found][1] == "not calibrated"
    assert "held-out AUROC 0.82, n 507, simulated" in texts(objects.read("report"), "Algorithm Parameters")
    assert found[2][3]["Derivation"].ConceptCodeSequence[0].CodeMeaning == "Standard Deviation"
    assert {below["Algorithm Family"].ConceptCodeSequence[0].CodeValue for *_, below in found} == {"123110"}


def test_every_number_stands_under_its_own_code(objects):
    """Of the generated follow-ups, then of the baseline; a probability has one code for all methods, see above."""
    found = [each[:3] for each in numbers(objects.read("report")) if each[0] != ("111047", "DCM")]
    volume = ("118565006", "SCT")
    assert found == [
        (("interval_days", "99NAMD"), 365, "d"),
        (("change-long", "99NAMD"), 1.5, "mm"),
        (("change-perp", "99NAMD"), 1.0, "mm"),
        (("change-mean", "99NAMD"), 1.25, "mm"),
        (volume, 415, "mm3"),
        (("doublings", "99NAMD"), 0.5, "1"),
        (("runs-growing", "99NAMD"), 45, "%"),
        (("103339001", "SCT"), 9.5, "mm"),
        (("103340004", "SCT"), 7.25, "mm"),
        (volume, 310, "mm3"),
    ]


def test_medians_have_the_range_of_their_runs(objects):
    found = [(value, below) for _, value, _, below in numbers(objects.read("report")) if "Derivation" in below]
    medians = [each for each in found if each[1]["Derivation"].ConceptCodeSequence[0].CodeMeaning == "Median"]
    for (value, below), spread in zip(medians, (*CHANGES.values(), VOLUME, DOUBLINGS), strict=True):
        ends = [float(each.MeasuredValueSequence[0].NumericValue) for each in below.values() if each.ValueType == "NUM"]
        median, (low, high) = spread["median"], spread["interval90"]
        assert value == median and ends == pytest.approx([high - median, median - low])


def test_a_range_by_held_out_nodules_says_so(objects, tmp_path):
    case_dir = shutil.copytree(objects.case_dir, tmp_path / "nodule")
    held = {"mean": CHANGES["mean"] | {"held_out90": [-1.0, 4.0]}}
    growth = RESULT["growth"] | {"change_mm": CHANGES | held}
    (case_dir / "result.json").write_text(json.dumps({**RESULT, "growth": growth}))
    told = texts(report(open_source(objects.series, POINT), Made(case_dir, "key")), "Algorithm Parameters")
    assert told.count("range: 90 % of new patients, by held-out nodules") == 1


def texts(document, name):
    """Of the items of a name, each text or UID."""
    found = [each for each in items(document) if each.ConceptNameCodeSequence[0].CodeMeaning == name]
    return [each.get("TextValue") or each.UID for each in found]


def test_the_interval_that_was_asked_for(objects, tmp_path):
    case_dir = shutil.copytree(objects.case_dir, tmp_path / "nodule")
    (case_dir / "result.json").write_text(json.dumps({**RESULT, "interval_days": 730}))
    item = report(open_source(objects.series, POINT), Made(case_dir, "key"))
    assert [each[1:3] for each in numbers(item) if each[0] == ("interval_days", "99NAMD")] == [(730, "d")]
    told = texts(item, "Comment")[0], item.ContributingEquipmentSequence[-1].ContributionDescription
    assert all("follow-up after 24 months" in each and "year" not in each for each in told)


def test_segmentation_and_groups_are_of_one_nodule(objects):
    item, (segment,) = objects.read("report"), objects.read("replaced").SegmentSequence
    assert texts(item, "Time Point") == ["Generated follow-up", "Baseline"]
    assert texts(item, "Tracking Unique Identifier") == [segment.TrackingUID] * 2
    assert texts(item, "Tracking Identifier") == [segment.TrackingID] * 2 == ["NAMD nodule at -70, 0, 102 mm"] * 2


def test_flags_and_what_could_not_be_said(objects):
    texts = [item.TextValue for item in items(objects.read("report")) if item.ValueType == "TEXT"]
    assert plain(f"Flag: {RESULT['flags'][0]}") in texts and all(text.isascii() for text in texts)
    assert any("Brock" in text and "lacks the number of nodules" in text for text in texts)
    assert any("SYNTHETIC" in text for text in texts)
    assert plain(held_out_in_words(RESULT)) in texts, "an AUROC's cases, and how they were held out"


def test_it_is_preliminary_and_of_the_slice(objects):
    item = objects.read("report")
    assert (item.PreliminaryFlag, item.VerificationFlag, item.CompletionFlag) == (
        "PRELIMINARY",
        "UNVERIFIED",
        "PARTIAL",
    )
    assert item.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == "99NAMD"
    references = [each.ReferencedSOPSequence[0] for each in items(item) if each.ValueType == "IMAGE"]
    assert {each.ReferencedSOPInstanceUID for each in references} == {objects.slice().SOPInstanceUID}


def test_plain_text():
    assert plain("523 mm³ ± 2 × é") == "523 mm3 +/- 2 x e"
