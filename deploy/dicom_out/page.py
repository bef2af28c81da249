"""The page to print, encapsulated."""

from __future__ import annotations

import highdicom as hd
from highdicom.sr.coding import CodedConcept
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian

from deploy.dicom_out.made import Made
from deploy.dicom_out.marks import mark, reference
from deploy.dicom_out.source import Source


def document(source: Source, made: Made) -> hd.SOPClass:
    """result.pdf, one page, which says on top that it is research and synthetic, and names no patient."""
    content = (made.folder / "result.pdf").read_bytes()
    item = hd.SOPClass(
        **made.place(source, "page", 5, "page"),
        study_instance_uid=source.image.StudyInstanceUID,
        sop_class_uid=EncapsulatedPDFStorage,
        modality="DOC",
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    item.ConversionType = "WSD"
    item.AcquisitionDateTime = ""
    item.BurnedInAnnotation = "NO"
    item.DocumentTitle = f"Generated follow-up of the lung nodule at {source.place}, synthetic, research only"
    item.ConceptNameCodeSequence = Sequence([CodedConcept.from_code(codes.DCM.ImagingMeasurementReport)])
    item.SourceInstanceSequence = Sequence([reference(source)])
    item.MIMETypeOfEncapsulatedDocument = "application/pdf"
    item.EncapsulatedDocumentLength = len(content)
    item.EncapsulatedDocument = content + b"\0" * (len(content) % 2)
    mark(item, source, made, "A page of the result.")
    return item
