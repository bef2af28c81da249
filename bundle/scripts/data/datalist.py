"""The datalist of a dataset folder (``datalist.json``), and the MONAI items of its sections."""

from __future__ import annotations

import json
import logging
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from scripts.data.padding import boxes
from scripts.ehr.encoding import attributes
from scripts.ehr.features import EHR_FEATURES, EHRError, validate
from scripts.ehr.report import radiology_report
from scripts.errors import UserError

logger = logging.getLogger(__name__)

SECTIONS = ("training", "validation", "test")
"""The lists of cases that every datalist has, each a baseline and its follow-up."""

SINGLE = {"unpaired": "image", "predict": "baseline"}
"""Optional lists of single crops, with the crop's key: to train on where no pair is needed, and to forecast from."""

KEYS = {
    **dict.fromkeys(SECTIONS, ("case_id", "baseline", "follow_up", "ehr")),
    **{name: (key,) for name, key in SINGLE.items()},
}
"""What items are made of, which each entry of a list must have."""

KINDS: dict[str, Any] = {"ehr": dict, "patient_id": str | int, "case_id": str | int}
"""Of what an entry has by these keys; all others are paths."""

AIR_HU = -400
"""Every crop about a nodule in lung has pixels below this."""


class DatalistError(UserError):
    """A dataset that is absent or malformed; the message names the file and the entry."""


def load_datalist(dataset_dir: str | Path) -> dict[str, Any]:
    """Reads the datalist of a dataset folder and checks that no patient is in two sections.

    Patients of ``predict``, which nothing is trained or judged on, may be in another one too.

    Raises:
        DatalistError: no datalist, not JSON, a section absent, an entry without its patient, a patient in two sections,
            or padding of other crops.
    """
    path = Path(dataset_dir) / "datalist.json"
    if not path.is_file():
        raise DatalistError(
            f"{path}: no datalist. Make one with `python -m data_prep cohort TABLE --out {dataset_dir}`."
        )
    try:
        datalist = json.loads(path.read_bytes())
    except ValueError as error:
        raise DatalistError(f"{path}: not JSON ({error}).") from error
    if not isinstance(datalist, dict):
        raise DatalistError(
            f"{path}: holds a {type(datalist).__name__}; expected an object with {', '.join(SECTIONS)}."
        )
    missing = [section for section in SECTIONS if not isinstance(datalist.get(section), list)]
    if missing:
        raise DatalistError(f"{path}: no list {', '.join(missing)}; expected {', '.join(SECTIONS)}.")
    if odd := [section for section in SINGLE if not isinstance(datalist.get(section, []), list)]:
        raise DatalistError(f"{path}: {odd[0]} is no list. Leave it out, or make the dataset again.")
    for section in (*SECTIONS, *SINGLE):
        _refuse_gaps(path, section, datalist.get(section, []), () if section == "predict" else ("patient_id",))
    patients = {section: {case["patient_id"] for case in datalist[section]} for section in SECTIONS}
    patients["training"] |= {crop["patient_id"] for crop in datalist.get("unpaired", [])}
    for first, second in (("training", "validation"), ("training", "test"), ("validation", "test")):
        shared = sorted(patients[first] & patients[second])
        if shared:
            raise DatalistError(
                f"{path}: {len(shared)} patients stand in {first} and in {second} (first: {shared[0]}). "
                "Split by patient: results would be worth nothing."
            )
    _refuse_padding_of_others(path, datalist)
    return datalist


def _refuse_gaps(path: Path, section: str, entries: Sequence[Any], keys: Sequence[str]) -> None:
    """Refuses entries that are no objects, or in which one of the keys is missing or has something else."""
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict):
            found = f"is a {type(entry).__name__}; expected an object"
        elif odd := [key for key in keys if not isinstance(entry.get(key), KINDS.get(key, str))]:
            found = f"({entry.get('case_id', 'without case_id')}) has no {odd[0]}"
        else:
            continue
        raise DatalistError(f"{path}: entry {number} of {section} {found}. Make the dataset again.")


@contextmanager
def _named(*where: object) -> Iterator[None]:
    """Puts the file, and the case, before each fault that is found in a record."""
    try:
        yield
    except EHRError as error:
        place = ": ".join(map(str, where))
        raise EHRError("\n".join(f"{place}: {line}" for line in str(error).splitlines())) from error


def _refuse_padding_of_others(path: Path, datalist: Mapping[str, Any]) -> None:
    """Refuses crops of which ``unpadded`` knows none, as where their paths were rewritten: padding would be learnt."""
    entries = [entry for section in (*SECTIONS, *SINGLE) for entry in datalist.get(section, [])]
    crops = {entry[key] for entry in entries for key in ("baseline", "follow_up", "image") if key in entry}
    named = datalist.get("unpadded") or {}
    if named and crops and not crops & named.keys():
        raise DatalistError(
            f"{path}: unpadded knows {len(named)} crops (first: {min(named)}), but none that a case has (first: "
            f"{min(crops)}). Name the crops alike in both."
        )


def entries_of(
    dataset_dir: str | Path, datalist: Mapping[str, Any], section: str, allowed: Sequence[str] = SECTIONS
) -> list[dict[str, Any]]:
    """The entries of a section.

    Args:
        dataset_dir: for the message.
        allowed: sections that may be meant, by default those with follow-ups.

    Raises:
        DatalistError: another one is named, or an entry lacks what items are made of.
    """
    if section not in allowed:
        has = "has no follow-ups" if section in SINGLE else "is no section"
        raise DatalistError(f"{dataset_dir}: {section} {has}; expected --section with one of {', '.join(allowed)}.")
    entries = datalist.get(section, [])
    _refuse_gaps(Path(dataset_dir) / "datalist.json", section, entries, KEYS[section])
    return entries


def cases_of(dataset_dir: str | Path, sections: Sequence[str]) -> list[dict[str, Any]]:
    """The datalist's entries of some sections, in one list."""
    datalist = load_datalist(dataset_dir)
    return [case for section in sections for case in datalist[section]]


def pairs(dataset_dir: str | Path, section: str, report_interval: bool = True) -> list[dict[str, Any]]:
    """The cases of a section as MONAI items: paths of ``baseline`` and ``follow_up``, ``report``, ``malignant``.

    Where crops of the set are padded, also what of both is not, see :mod:`scripts.data.padding`.

    ``malignant`` is NaN where the outcome is unknown. The report holds baseline features alone and, unless
    ``report_interval`` is False, the interval.

    Raises:
        DatalistError: the section has no follow-ups, or is none.
        EHRError: naming every fault of the first record that has any.
    """
    folder, datalist = Path(dataset_dir), load_datalist(dataset_dir)

    def item(case: dict[str, Any]) -> dict[str, Any]:
        with _named(folder / "datalist.json", case["case_id"]):
            report = radiology_report(case["ehr"], case.get("interval_days") if report_interval else None)
        paths = {key: str(folder / case[key]) for key in ("baseline", "follow_up")}
        parts = boxes(datalist, {key: case[key] for key in paths})
        return {"case_id": case["case_id"], **paths, "report": report, "malignant": outcome(case), **parts}

    return [item(case) for case in entries_of(folder, datalist, section)]


def inference_items(
    dataset_dir: str | Path,
    section: str,
    image: str | Path | None = None,
    ehr: str | Path | None = None,
    interval_days: float | None = None,
    image_size: int = 64,
    report_interval: bool = True,
) -> list[dict[str, Any]]:
    """The cases to generate follow-ups for, as items ``case_id``, ``image``, ``report``, ``ehr`` and ``interval_days``.

    The last two are the record and the interval that the report was written from; networks do not read them. The
    baseline crop's key is ``image``, the network's input in ``metadata.json``, by which MONAI Deploy and MONAI
    Label look for it.

    Args:
        section: its cases are taken, unless ``image`` is given; also ``unpaired`` or ``predict``.
        image: a single crop (NIfTI in HU), which replaces the section.
        ehr: a JSON file with the single crop's EHR; without one, nothing is known.
        interval_days: to the follow-up, from the single crop and where an entry of ``predict`` does not say.
        image_size: pixels that every crop must have at least on each side.
        report_interval: whether reports state the interval.

    Raises:
        DatalistError: the section is empty, or has a case id twice; a crop is one that :func:`check_crop` refuses; or
            the EHR file is absent or not JSON.
        EHRError: naming every fault of the EHR.
    """
    if image is None:
        items = _of_section(dataset_dir, section, interval_days, report_interval)
        _warn_of_gaps([item["ehr"] for item in items])
        for item in items:
            check_crop(item["image"], image_size)
        return items
    check_crop(image, image_size)
    try:
        record = json.loads(Path(ehr).read_bytes()) if ehr is not None else {}
    except (OSError, ValueError) as error:
        raise DatalistError(f"{ehr}: expected a JSON object of EHR features ({error}).") from error
    if not isinstance(record, dict):
        raise DatalistError(f"{ehr}: expected a JSON object of EHR features, found a {type(record).__name__}.")
    with _named(image if ehr is None else ehr):
        report = radiology_report(record, interval_days if report_interval else None)
    _warn_of_gaps([record])
    _warn_of_another_view(image)
    item = {"case_id": _name(image), "image": str(image), "report": report}
    return [{**item, "ehr": record, "interval_days": interval_days}]


def _of_section(
    dataset_dir: str | Path, section: str, interval_days: float | None, report_interval: bool
) -> list[dict[str, Any]]:
    """The items of :func:`inference_items` for a section."""
    folder, datalist = Path(dataset_dir), load_datalist(dataset_dir)
    cases = entries_of(folder, datalist, section, (*SECTIONS, *SINGLE))
    if not cases:
        raise DatalistError(f"{folder}: its {section} section is empty; name another with --section.")
    key, items = SINGLE.get(section, "baseline"), []
    numbers: dict[str, int] = {}
    for number, case in enumerate(cases, start=1):
        ehr, days = case.get("ehr", {}), case.get("interval_days")
        days = interval_days if days is None and section in SINGLE else days
        name = case.get("case_id", _name(case[key]))  # single crops may have none
        if (first := numbers.setdefault(str(name), number)) != number:
            raise DatalistError(
                f"{folder / 'datalist.json'}: entries {first} ({cases[first - 1][key]}) and {number} ({case[key]}) of "
                f"{section} are both case {name}, so one would replace the other. Give each its own case_id."
            )
        with _named(folder / "datalist.json", name):
            report = radiology_report(ehr, days if report_interval else None)
        items.append(
            {"case_id": name, "image": str(folder / case[key]), "report": report, "ehr": ehr, "interval_days": days}
        )
    return items


def _name(crop: str | Path) -> str:
    """What a crop's case is called where nothing else says."""
    return Path(crop).name.removesuffix(".gz").removesuffix(".nii")


def _warn_of_gaps(records: Sequence[Mapping[str, Any]]) -> None:
    """Logs which features are missing: weights trained on whole records were never asked for such a report."""
    known = [validate(record) for record in records]
    missing = [name for name in EHR_FEATURES if any(name not in record for record in known)]
    if missing:
        gaps = sum(len(record) < len(EHR_FEATURES) for record in known)
        logger.warning(
            f"{gaps} of {len(known)} records lack features ({', '.join(missing)}). Weights that were trained on whole "
            "records, as those in the bundle, may then give images that have dissolved, with guidance above all: give "
            "all features, or use --guidance_scale 1 where it is more, and look at the images."
        )


def _warn_of_another_view(image: str | Path) -> None:
    """Logs that a crop is mirrored or turned, or can be no HU of lung: the networks were trained on no such crop."""
    crop: Any = nib.load(image)
    axes = "".join(map(str, nib.aff2axcodes(crop.affine)[:2]))
    if axes != "LP":
        logger.warning(
            f"{image}: its axes run to {axes}; expected LP, the patient's left and back, so the networks see it "
            "mirrored or turned. `python -m data_prep crop` cuts crops that are right."
        )
    if (lowest := float(np.asanyarray(crop.dataobj).min())) > AIR_HU:
        logger.warning(f"{image}: no pixel is below {AIR_HU} (the lowest: {lowest:g}); expected HU, with lung in view.")


def check_crop(path: str | Path, image_size: int) -> None:
    """Refuses a crop that no network can take.

    Args:
        image_size: pixels that it must have at least on each side.

    Raises:
        DatalistError: it is absent, unreadable, of more than one slice, smaller, or has values that are not finite.
    """
    expected = f"expected a nodule-centred crop as NIfTI in HU, one axial slice of at least {image_size} px a side"
    if not Path(path).is_file():
        raise DatalistError(f"{path}: no such file; {expected}.")
    try:
        crop: Any = nib.load(path)
        fits = len(crop.shape) == 3 and crop.shape[2] == 1 and min(crop.shape[:2]) >= image_size
        pixels = np.asanyarray(crop.dataobj) if fits else None  # not of a whole scan
    except (OSError, EOFError, zlib.error, nib.filebasedimages.ImageFileError) as error:
        raise DatalistError(f"{path}: cannot be read ({error}); {expected}.") from error
    if pixels is None:
        raise DatalistError(
            f"{path}: has shape {crop.shape}; {expected}. `python -m data_prep cohort` cuts crops from scans."
        )
    refuse_unfinite(path, pixels)


def refuse_unfinite(path: str | Path, pixels: NDArray[Any]) -> None:
    """Refuses a crop with NaN or infinite pixels, by its file's name.

    Raises:
        DatalistError: there are such pixels.
    """
    if wrong := pixels.size - np.count_nonzero(np.isfinite(pixels)):
        raise DatalistError(
            f"{path}: {wrong} of {pixels.size} pixels are NaN or infinite; expected HU. Cut the crop again."
        )


def crops(dataset_dir: str | Path, section: str, metric: str = "standardised") -> list[dict[str, Any]]:
    """Every single crop of a section, baselines and follow-ups alike; in ``training`` also the unpaired crops.

    Args:
        metric: how nodule attributes become numbers, ``raw`` or ``standardised`` (see :func:`scripts.ehr.attributes`).

    Returns:
        Items ``image`` (path), ``attributes`` (F,) float32 with NaN where unknown, ``malignant``, and what of the image
        is not padded, see :mod:`scripts.data.padding`.
    """
    folder, datalist = Path(dataset_dir), load_datalist(dataset_dir)

    def item(crop: str, ehr: dict[str, Any], case: dict[str, Any]) -> dict[str, Any]:
        with _named(folder / "datalist.json", case.get("case_id", crop)):
            vector = np.asarray(attributes(ehr, metric), dtype=np.float32)
        parts = boxes(datalist, {"image": crop})
        return {"image": str(folder / crop), "attributes": vector, "malignant": outcome(case), **parts}

    items = []
    for case in entries_of(folder, datalist, section):
        items.append(item(case["baseline"], case["ehr"], case))
        items.append(item(case["follow_up"], case.get("follow_up_attributes", {}), case))
    if section == "training":
        single = entries_of(folder, datalist, "unpaired", ("unpaired",))
        items += [item(crop["image"], crop.get("ehr", {}), crop) for crop in single]
    return items


def outcome(case: Mapping[str, Any]) -> float:
    """The outcome of a datalist's entry: 1.0 malignant, 0.0 benign, NaN unknown."""
    value = case.get("malignant")
    return math.nan if value is None else float(value)
