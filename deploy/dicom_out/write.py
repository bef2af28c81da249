"""All objects of a case in one folder, made once: a second call finds the same bytes."""

from __future__ import annotations

import hashlib
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom import config
from pydicom.dataset import Dataset

from deploy.dicom_out.source import Source
from scripts.errors import UserError
from scripts.files import read_mapping, whole_folder, write_json

INDEX = "objects.json"
"""In the folder of objects: the case's key, and what each file is."""

OBJECTS = ("panel", "replaced", "mean", "deviation", "report", "page")
"""What is written of every case, ``<name>.dcm``."""

SLICE = "slice"
"""What is written when asked for."""


class ObjectsError(UserError):
    """A folder that cannot take a case's objects."""


def write_objects(source: Source, case_dir: Path, folder: Path, key: str, with_slice: bool = False) -> dict[str, Any]:
    """Writes the DICOM objects of a case, and result.json beside them, whole or not at all.

    Args:
        source: the slice of the series.
        case_dir: with what inference wrote of the case, result.pdf among it.
        folder: to write; where it holds the same case's objects, they stay as they are.
        key: of :func:`deploy.dicom_out.keys.case_key`.
        with_slice: also the slice of CT with a follow-up in it.

    Returns:
        The content of objects.json: ``key``, and ``objects`` by file name with SOP class and instance UID, series UID
        and SHA-256 of the file.

    Raises:
        ObjectsError: the folder holds something else.
    """
    names = (*OBJECTS, SLICE) if with_slice else OBJECTS
    if (known := kept(folder, key, names)) is not None:
        return known
    refuse_other(folder)
    with whole_folder(folder) as new, quiet():
        objects = {f"{name}.dcm": item for name, item in _made(source, case_dir, key, names)}
        for name, item in objects.items():
            item.save_as(new / name, enforce_file_format=True)
        shutil.copyfile(case_dir / "result.json", new / "result.json")
        content = {"key": key, "objects": {name: _entry(item, new / name) for name, item in objects.items()}}
        write_json(new / INDEX, content)
    return content


def kept(folder: Path, key: str, names: tuple[str, ...] = OBJECTS) -> dict[str, Any] | None:
    """objects.json of a folder that holds this case's objects whole; None otherwise."""
    if not (folder / INDEX).is_file():
        return None
    try:
        content = read_mapping(folder / INDEX)
    except UserError:  # damaged, so that they are made anew
        return None
    if content.get("key") != key or set(content["objects"]) != {f"{name}.dcm" for name in names}:
        return None
    if all(
        (folder / name).is_file() and _sha256(folder / name) == e["sha256"] for name, e in content["objects"].items()
    ):
        return content
    return None


def refuse_other(folder: Path) -> None:
    """Refuses to replace what are no objects of a case.

    Raises:
        ObjectsError: the folder holds something else.
    """
    if folder.exists() and not (folder / INDEX).is_file() and (folder.is_file() or any(folder.iterdir())):
        raise ObjectsError(f"{folder}: exists and holds no objects of a case. Name another folder, or remove it.")


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps others' words about headers out of logs, since they quote them; values are passed on as they are.

    This is set for all threads, so that one alone may be in it.
    """
    logger = logging.getLogger("highdicom")
    level, reading = logger.level, config.settings.reading_validation_mode
    logger.setLevel(logging.CRITICAL)
    config.settings.reading_validation_mode = config.IGNORE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        config.settings.reading_validation_mode = reading


def _made(source: Source, case_dir: Path, key: str, names: tuple[str, ...]) -> Iterator[tuple[str, Dataset]]:
    """The objects, one by one."""
    from deploy.dicom_out import maps, page, pictures, report
    from deploy.dicom_out.made import Made

    made = Made(case_dir, key)
    makers: dict[str, Callable[[Source, Made], Dataset]] = {
        "panel": pictures.panel,
        "replaced": maps.segmentation,
        "mean": maps.mean,
        "deviation": maps.deviation,
        "report": report.report,
        "page": page.document,
        SLICE: pictures.ct_slice,
    }
    for name in names:
        yield name, makers[name](source, made)


def _entry(item: Dataset, path: Path) -> dict[str, str]:
    return {
        "sop_class_uid": str(item.SOPClassUID),
        "sop_instance_uid": str(item.SOPInstanceUID),
        "series_instance_uid": str(item.SeriesInstanceUID),
        "sha256": _sha256(path),
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
