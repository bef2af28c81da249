"""The slice that a nodule lies in, as far as objects made from it repeat it: by a list, never the whole header.

Headers of real series hold values that no validator takes, and private elements that say who knows what. What is not
named here does not get into an object.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import UID

from data_prep.cutting import Centre
from data_prep.errors import ImageError
from data_prep.images.dicom import open_series
from data_prep.images.headers import read_whole
from data_prep.single import place_of

EMPTY_IF_UNKNOWN = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID"),
)
"""Of patient and study, what every object has, empty where the series does not tell (type 2)."""

IF_KNOWN = (
    *("IssuerOfPatientID", "TypeOfPatientID", "PatientBirthTime", "QualityControlSubject", "OtherPatientNames"),
    *("EthnicGroup", "PatientComments", "PatientIdentityRemoved", "DeidentificationMethod"),
    *("AdmittingDiagnosesDescription", "PatientAge", "PatientSize", "PatientWeight", "PatientBodyMassIndex"),
    *("MedicalAlerts", "Allergies", "Occupation", "SmokingStatus", "AdditionalPatientHistory", "LastMenstrualDate"),
    *("ReasonForVisit", "AdmissionID", "ServiceEpisodeID", "ServiceEpisodeDescription", "PatientState"),
    *("ConsultingPhysicianName", "StudyDescription", "PhysiciansOfRecord", "NameOfPhysiciansReadingStudy"),
    "RequestingService",
    *("ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName", "ClinicalTrialSiteID"),
    *("ClinicalTrialSiteName", "ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID"),
    *("ClinicalTrialTimePointID", "ClinicalTrialTimePointDescription"),
)
"""Of patient and study (PS3.3, C.7.1, C.7.2), what objects have where the series has it; all of it is text."""

DECODED = ("PregnancyStatus", "DeidentificationMethodCodeSequence")
"""What is copied and is no text; other sequences refer to objects elsewhere, often wrongly."""

IMAGE = (
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"),
    *("PositionReferenceIndicator", "Modality", "InstanceNumber", "PatientPosition", "Laterality", "KVP"),
    *("Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "SliceThickness"),
    *("SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit"),
    *("PixelRepresentation", "ImageType", "AcquisitionNumber", "ConvolutionKernel"),
)
"""Of the slice itself, what says where it lies and how it was made."""

UIDS = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
"""Without which no object can refer to the slice."""


@dataclass(frozen=True)
class Source:
    """One slice of a series.

    Attributes:
        path: its file.
        identity: patient and study, byte for byte, with the character set of their texts.
        image: the slice without pixels, and without the patient.
        hu: (columns, rows, 1), NaN where the scanner padded, with its RAS+ affine.
        point: the nodule's centre, mm, LPS.
    """

    path: Path
    identity: Dataset
    image: Dataset
    hu: nib.Nifti1Image
    point: Centre

    @property
    def place(self) -> str:
        """Where the nodule lies, in words, by which nodules of one scan are told apart."""
        return place_of(self.point)

    @property
    def identifiers(self) -> dict[str, str]:
        """By what patient, study, series and slice are known; texts as their bytes."""
        uids = {keyword: str(self.image[keyword].value) for keyword in UIDS}
        return uids | {keyword: str(self.identity.get_item(keyword).value) for keyword in EMPTY_IF_UNKNOWN}

    def identify(self, item: Dataset) -> None:
        """Puts patient and study into an object, in place of what is there."""
        for keyword in (*EMPTY_IF_UNKNOWN, *IF_KNOWN, *DECODED, "SpecificCharacterSet"):
            if keyword in item:
                del item[keyword]
        item.update(self.identity)

    def within(self, affine: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float64]:
        """Where the pixels of the slice lie on another grid of the same plane.

        Args:
            affine: of that grid, voxel to mm, RAS+.
            shape: its voxels along its first two axes.

        Returns:
            (2, columns, rows), the place along both axes, NaN outside the grid's outer voxels' faces.
        """
        index = np.indices(self.hu.shape[:2]).reshape(2, -1)
        voxels = np.stack([*index, np.zeros_like(index[0]), np.ones_like(index[0])])
        places = (np.linalg.inv(affine) @ self.hu.affine @ voxels)[:2].reshape(2, *self.hu.shape[:2])
        last = np.array(shape)[:, None, None]
        inside = ((places >= -0.5) & (places < last - 0.5)).all(axis=0)
        return np.where(inside, places, np.nan)


def open_source(folder: Path, point: Centre, series_uid: str | None = None) -> Source:
    """The slice of a DICOM series that is nearest to a point.

    Args:
        folder, series_uid: see :func:`data_prep.images.dicom.open_series`.
        point: mm, LPS.

    Raises:
        ImageError: no DICOM, or without the UIDs that an object needs.
    """
    if not folder.is_dir():
        raise ImageError(folder, "no DICOM folder", "DICOM objects need the series that they belong to. Give it.")
    series = open_series(folder, series_uid)
    index = series.nearest_slice(point)
    path = series.paths[index]
    item = read_whole(path, stop_before_pixels=True)
    for keyword in UIDS:
        if not UID(str(item.get(keyword, ""))).is_valid:
            explanation = "a DICOM object refers to it. Export the series again, or leave --dicom out."
            raise ImageError(path, f"missing or malformed {keyword}", explanation)
    image = Dataset()
    for keyword in IMAGE:
        if keyword in item:
            image[keyword] = item[keyword]
    for keyword in EMPTY_IF_UNKNOWN:
        setattr(image, keyword, "")
    return Source(path, _identity(item), image, series.read_slice(index), point)


def _identity(item: Dataset) -> Dataset:
    """Patient and study; texts stay bytes, so that no character is lost in decoding."""
    found = Dataset()
    for keyword in ("SpecificCharacterSet", *EMPTY_IF_UNKNOWN, *IF_KNOWN):
        tag = Tag(tag_for_keyword(keyword) or 0)
        element = item.get_item(tag)
        if isinstance(element, RawDataElement):  # pydicom has not decoded it yet
            content = bytes(element.value or b"")
            found[tag] = RawDataElement(tag, dictionary_VR(tag), len(content), content, 0, False, True)
        elif element is not None:
            found[tag] = element
        elif keyword in EMPTY_IF_UNKNOWN:
            setattr(found, keyword, "")
    for keyword in DECODED:
        if keyword in item:
            found[keyword] = item[keyword]
    found.StudyInstanceUID = item.StudyInstanceUID
    return found
