"""What every object says of itself: synthetic, for research, made by this program from that slice."""

from __future__ import annotations

from highdicom import ContributingEquipment
from highdicom.content import AlgorithmIdentificationSequence
from highdicom.sr.coding import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes

from data_prep.version import VERSION
from deploy.dicom_out.made import MANUFACTURER, MODEL, Made
from deploy.dicom_out.source import Source
from scripts.ehr.report import interval_in_words

WARNING = "SYNTHETIC. Research use only, not for any clinical decision."


def statement(source: Source, made: Made) -> str:
    """What was made, of which nodule and after how long, and that it is for research."""
    after = interval_in_words(made.result["interval_days"])
    return f"Generated follow-up after {after} of the lung nodule at {source.place}, LPS. {WARNING}"


def mark(item: Dataset, source: Source, made: Made, description: str, burned_in: bool | None = None) -> None:
    """Marks an object, and gives it the patient and the study of its slice.

    Args:
        item: highdicom's, or built like them.
        source, made: the slice, and the result that the object is of.
        description: what it shows.
        burned_in: whether its pixels say SYNTHETIC; None: it has none.
    """
    source.identify(item)
    item.SyntheticData = "YES"
    item.ContentQualification = "RESEARCH"
    equipment = ContributingEquipment(
        manufacturer=MANUFACTURER,
        purpose_of_reference=codes.DCM.SynthesizingEquipment,
        manufacturer_model_name=MODEL,
        software_versions=VERSION,
        contribution_description=statement(source, made),
    )
    item.ContributingEquipmentSequence = Sequence([*item.get("ContributingEquipmentSequence", []), equipment])
    if burned_in is not None:
        item.BurnedInAnnotation = "YES" if burned_in else "NO"
        item.DerivationDescription = f"{description} {WARNING}"
        item.SourceImageSequence = Sequence([reference(source)])
        item.BodyPartExamined = "CHEST"


def reference(source: Source) -> Dataset:
    """An item that refers to the slice as what an image was computed from."""
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.image.SOPClassUID, source.image.SOPInstanceUID
    purpose = CodedConcept.from_code(codes.DCM.SourceImageForImageProcessingOperation)
    item.PurposeOfReferenceCodeSequence = Sequence([purpose])
    return item


def algorithm(parameters: dict[str, str]) -> AlgorithmIdentificationSequence:
    """What made the pixels."""
    return AlgorithmIdentificationSequence(
        name=MODEL, family=codes.DCM.ArtificialIntelligence, version=VERSION, source=MANUFACTURER, parameters=parameters
    )
