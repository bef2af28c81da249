"""What can be taken along of a case: NIfTI, a page to print, and, of a DICOM scan, objects for its archive."""

from __future__ import annotations

import io
import threading
import zipfile
from pathlib import Path

from data_prep.single import place_of
from deploy.case import CASE, Predictor
from deploy.page.refusal import Refusal
from deploy.page.sessions import Case

KINDS = {
    "nifti": ("application/zip", "synthetic-follow-up-nifti.zip"),
    "pdf": ("application/pdf", "synthetic-follow-up.pdf"),
    "dicom": ("application/zip", "synthetic-follow-up-dicom.zip"),
}
"""Media types and names of files; each file in them says that it is synthetic."""

MAKING = threading.Lock()
"""Held while something is made, since a browser may ask twice, and much of it is set for all threads."""

OF_NIFTI = ("samples.nii.gz", "mean.nii.gz", "std.nii.gz", "panel.png", "result.json")


def download(case: Case, kind: str, predictor: Predictor, secret: Path | None) -> bytes:
    """The content of a file of one of :data:`KINDS`.

    Args:
        predictor: by which the case was generated.
        secret: file of the site's secret, from which DICOM's UIDs follow.

    Raises:
        Refusal: of another kind, or DICOM of what was none.
    """
    if kind not in KINDS:
        raise Refusal(404, f"Expected one of {', '.join(KINDS)}.")
    if kind == "nifti":
        folder = case.out / CASE
        return zipped([case.out / f"{CASE}.nii.gz", *(folder / name for name in OF_NIFTI)])
    if kind == "pdf":
        with MAKING:
            return _page(case).read_bytes()
    if not case.scan.told["dicom"]:
        raise Refusal(409, "This scan was no DICOM series, so that there is nothing that objects could refer to.")
    with MAKING:
        return zipped(sorted(_objects(case, predictor, secret).iterdir()))


def _page(case: Case) -> Path:
    from scripts.results import write_page  # draws

    path = case.out / CASE / "result.pdf"
    image, place = case.out / f"{CASE}.nii.gz", place_of(case.point)
    return path if path.is_file() else write_page(case.out / CASE, image, place)


def _objects(case: Case, predictor: Predictor, secret: Path | None) -> Path:
    """The folder of DICOM objects, made at first use."""
    from deploy import dicom_case
    from deploy.dicom_out import write_objects

    told = (predictor, case.scan.image, case.point, case.record)
    asked = dicom_case.ask(*told, secret=secret, interval_days=case.interval_days)
    _page(case)
    write_objects(asked.source, case.out / CASE, case.folder / "dicom", asked.key)
    return case.folder / "dicom"


def zipped(paths: list[Path]) -> bytes:
    """A zip file of some files, flat."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in paths:
            archive.write(path, path.name)
    return buffer.getvalue()
