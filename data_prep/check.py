"""The check of a dataset folder: looks for what would spoil a training or a result."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import track
from rich.table import Table

from data_prep.cutting import read_made
from data_prep.errors import DataError
from data_prep.images.content import not_hu
from data_prep.images.crops import is_lossy
from data_prep.images.nifti import reading
from data_prep.padding import Padding, crops_of, padding, possible
from data_prep.plausible import unlikely
from data_prep.schema import LISTS, OLDEST, PREDICT, SECTIONS
from data_prep.spacing import other_pixels, unequal_pixels
from scripts.ehr.features import EHR_FEATURES, EHRError, validate
from scripts.errors import listed

SPACING_MM = (0.2, 2.0)
OTHER_SIDE = "x and y counted to the other side (RAS): change their signs, or convert --system RAS"
POINTS = (
    (("RAS",), 0.01, f"show nothing nodule-like {{where}}, but would if {OTHER_SIDE}"),
    (("RAS", "rather RAS"), 0.1, f"would show something more nodule-like if {OTHER_SIDE}"),
    (("voxels",), 0.01, "show nothing nodule-like {where}, but would if x, y, z were voxels: give mm, LPS"),
    (("nothing",), 0.2, "show nothing nodule-like {where}: look at them"),
)
"""What crops show at their points instead of nodules (see :data:`data_prep.images.crops.POINTS`), up to which share of
crops that happens by chance, and what is said of more."""


@dataclass
class Section:
    """What there is in one section of the datalist."""

    cases: int = 0
    patients: set[str] = field(default_factory=set)
    outcomes: Counter[int | None] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    hu: list[tuple[float, float]] = field(default_factory=list)
    spacing: dict[str, tuple[float, float]] = field(default_factory=dict)
    lossy: int = 0


@dataclass
class Overview:
    """What :func:`examine` found: what is in each section, all that is wrong, and what is worth a look, a line each."""

    name: str
    simulated: str
    sections: dict[str, Section]
    findings: list[str]
    padding: dict[str, Padding] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def load(dataset: Path) -> dict[str, Any]:
    """The datalist of a dataset folder.

    Raises:
        DataError: there is none, or it is not the JSON that it should be.
    """
    path = dataset / "datalist.json"
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected a dataset made by `python -m data_prep cohort`.")
    try:
        datalist = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: no JSON ({error}). Make the dataset again.") from error
    if not isinstance(datalist, dict) or not all(isinstance(datalist.get(section, []), list) for section in LISTS):
        raise DataError(f"{path}: expected an object with the lists {', '.join(LISTS)}. Make the dataset again.")
    return datalist


ALL_TRAIN = "section validation: no cases; training needs no_validation.yaml, and epochs that are known."


def examine(dataset: Path) -> Overview:
    """Checks a dataset folder.

    A dataset without training cases, for forecasts or for evaluation alone, may lack any section; one that is complete
    but for validation is noted, since it can be trained on for a fixed number of epochs. Patients in
    ``predict`` and in training are worth a look: forecasts for them are no test of weights that were trained on them.

    Looked for: patients in two sections (unpaired ones belong to training), identical pixels under two names, equal
    case names, absent or unreadable files, shapes, orientation, spacing, HU, EHR, outcomes, empty sections; and worth a
    look, :func:`data_prep.plausible.unlikely`.

    Raises:
        DataError: there is no datalist to check.

    Example:
        >>> from pathlib import Path
        >>> overview = examine(Path("dataset"))
        >>> overview.sections["training"].cases > 0
        True
        >>> overview.findings
        []
    """
    datalist = load(dataset)
    sections = {name: Section() for name in LISTS}
    trains = any(datalist.get(name) for name in ("training", "unpaired"))
    needed = SECTIONS if trains or not any(datalist.get(name) for name in LISTS) else ()
    missing = [name for name in needed if not datalist.get(name)]
    fixed_epochs = missing == ["validation"]
    findings = [] if fixed_epochs else [f"section {name}: no cases." for name in missing]
    places: dict[str, dict[str, str]] = defaultdict(dict)  # pixels' hash -> file -> section
    seen: dict[str, list[str]] = {}  # file -> faults, so that each is read and told of once
    for section, case in track(list(_cases(datalist)), description="Checking crops"):
        findings += _examine_case(case, section, sections[section])
        for key in _image_keys(section):
            name = case.get(key)
            if not isinstance(name, str):
                findings.append(f"{section}, {_label(case)}: no {key}.")
            elif name not in seen:
                seen[name] = _examine_crop(dataset, name, datalist, sections[section], section, places)
                findings += seen[name]
    impossible = _impossible_parts(datalist)
    findings += _leaking_patients(sections) + _equal_pixels(places) + _equal_names(datalist) + impossible
    padded = {} if impossible else {name: padding(datalist, name) for name in LISTS}
    wrong, notes = _points(dataset, datalist)
    sizes = {file: mm for section in sections.values() for file, mm in section.spacing.items()}
    wrong, notes = wrong + other_pixels(datalist, sizes), notes + unequal_pixels(datalist, sizes)
    name, simulated = (str(datalist.get(key, "")) for key in ("name", "simulated"))
    notes += unlikely(datalist) + _known_patients(sections) + [ALL_TRAIN] * fixed_epochs
    return Overview(name, simulated, sections, findings + wrong, padded, notes)


def _cases(datalist: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for section in LISTS:
        for case in datalist.get(section, []):
            yield section, case


def _image_keys(section: str) -> tuple[str, ...]:
    return {"unpaired": ("image",), PREDICT: ("baseline",)}.get(section, ("baseline", "follow_up"))


def _label(case: dict[str, Any]) -> str:
    return str(case.get("case_id", "a case without case_id"))


def _examine_case(case: dict[str, Any], name: str, section: Section) -> list[str]:
    """Counts a case and returns what is wrong with its facts."""
    findings = []
    section.cases += 1
    section.patients.add(str(case.get("patient_id")))
    outcome = case.get("malignant")
    section.outcomes[outcome] += 1
    if outcome not in (None, 0, 1):
        findings.append(f"{name}, {_label(case)}: malignant is {outcome!r}; expected 0, 1 or nothing.")
    ehr = case.get("ehr", {})
    age = ehr.get("age")
    if isinstance(age, int | float) and age > OLDEST:
        findings.append(f"{name}, {_label(case)}: age above {OLDEST}, which identifies. Make the dataset again.")
    section.missing.update(feature for feature in EHR_FEATURES if feature not in ehr)
    for key in ("ehr", "follow_up_attributes"):
        try:
            validate(case.get(key, {}))
        except EHRError as error:
            findings.append(f"{name}, {_label(case)}, {key}: {str(error).replace(chr(10), ' ')}")
    needed = name in SECTIONS or (name == PREDICT and "interval_days" in case)
    if needed and not 0 < case.get("interval_days", 0) < math.inf:
        findings.append(f"{name}, {_label(case)}: interval_days is {case.get('interval_days')}; expected 1 or more.")
    return findings


def _examine_crop(
    dataset: Path, file: str, datalist: dict[str, Any], section: Section, name: str, places: dict[str, dict[str, str]]
) -> list[str]:
    """Reads a crop, notes its pixels' hash and values, and returns what is wrong with it."""
    path = dataset / file
    if not path.resolve().is_relative_to(dataset.resolve()):
        return [f"{name}: {file}: outside the dataset's folder; expected a path relative to it."]
    if not path.is_file():
        return [f"{name}: {file}: missing file."]
    try:
        with reading(path):
            image = nib.Nifti1Image.from_filename(path)
            pixels = np.asanyarray(image.dataobj)
    except DataError as error:
        return [f"{name}: {error}"]
    places[hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()][file] = name
    if wrong := pixels.size - np.count_nonzero(np.isfinite(pixels)):
        return [f"{name}: {file}: {wrong} of {pixels.size} pixels are NaN or infinite; expected HU."]
    faults, size = [], datalist.get("crop_size")
    spacing = np.linalg.norm(image.affine[:3, :2], axis=0)
    if pixels.shape != (size, size, 1):
        faults.append(f"shape {pixels.shape}; expected ({size}, {size}, 1)")
    section.hu.append((float(pixels.min()), float(pixels.max())))
    box = datalist.get("unpadded", {}).get(file)
    faults += not_hu(pixels[slice(*box[:2]), slice(*box[2:])] if possible(box, size) else pixels, spacing)
    section.spacing[file] = float(spacing[0]), float(spacing[1])
    section.lossy += is_lossy(image)
    if not np.all((spacing >= SPACING_MM[0]) & (spacing <= SPACING_MM[1])):
        faults.append(f"pixel spacing {spacing.round(3).tolist()} mm; expected {SPACING_MM[0]} to {SPACING_MM[1]}")
    axes = "".join(map(str, nib.aff2axcodes(image.affine)))
    if axes != "LPS":
        faults.append(f"axes {axes}; expected LPS")
    return [f"{name}: {file}: {fault}." for fault in faults]


def _leaking_patients(sections: dict[str, Section]) -> list[str]:
    """Patients in two sections; whose single timepoints are in training, is in training."""
    groups = {name: set(sections[name].patients) for name in SECTIONS}
    groups["training"] |= sections["unpaired"].patients
    pairs = [("training", "validation"), ("training", "test"), ("validation", "test")]
    return [
        f"leakage: patient {patient} is in {first} and in {second}."
        for first, second in pairs
        for patient in sorted(groups[first] & groups[second])
    ]


def _known_patients(sections: dict[str, Section]) -> list[str]:
    """That patients to forecast for are among those that weights are trained on."""
    trained = sections["training"].patients | sections["validation"].patients | sections["unpaired"].patients
    wanted = sections[PREDICT].patients
    if not (known := sorted(wanted & trained)):
        return []
    return [
        f"{len(known)} of {len(wanted)} patients in predict are in training or validation too ({listed(known)}): "
        "weights trained on this dataset know them, so these forecasts are no test of the weights."
    ]


def _equal_pixels(places: dict[str, dict[str, str]]) -> list[str]:
    """Crops with the same pixels under different names: leakage between sections, duplicates within one."""
    findings = []
    for files in places.values():
        if len(files) > 1:
            sections = {"training" if section == "unpaired" else section for section in files.values()}
            kind = f"leakage between {' and '.join(sorted(sections))}" if len(sections) > 1 else "duplicates"
            findings.append(f"{kind}: identical pixels in {', '.join(sorted(files))}.")
    return findings


def _equal_names(datalist: dict[str, Any]) -> list[str]:
    names = Counter(_label(case) for _, case in _cases(datalist))
    return [f"duplicates: case_id {name} stands {count} times." for name, count in names.items() if count > 1]


def _impossible_parts(datalist: dict[str, Any]) -> list[str]:
    """Entries of ``unpadded`` that are no part of a crop of the set about its middle."""
    known, size = set(crops_of(case for _, case in _cases(datalist))), datalist.get("crop_size")
    unpadded = datalist.get("unpadded", {})
    findings = [f"unpadded: {crop} is no crop of this dataset." for crop in unpadded if crop not in known]
    expected = "expected first and end along both axes, about the middle of the crop"
    return findings + [
        f"unpadded: {crop}: {box}; {expected}." for crop, box in unpadded.items() if not possible(box, size)
    ]


def _points(dataset: Path, datalist: dict[str, Any]) -> tuple[list[str], list[str]]:
    """What is wrong with where crops were cut, by what they show there, and which crops are worth a look."""
    made, wrong, notes = read_made(dataset), [], []
    judged = [
        made[crop] for crop in crops_of(case for _, case in _cases(datalist)) if crop in made and made[crop].point
    ]
    for placed, where in ((True, "at their x, y, z"), (False, "in the middle of their image")):
        crops, told = [each for each in judged if each.placed is placed], set()
        for points, by_chance, words in POINTS:
            odd = [each.crop for each in crops if each.point in points and each.crop not in told]
            text = f"{len(odd)} of {len(crops)} crops {words.format(where=where)} ({listed(odd)})."
            if len(odd) > by_chance * len(crops):
                wrong.append(text)
                told.update(odd)
            elif odd and placed and len(points) == 1:
                notes.append(text)
    return wrong, notes


def print_overview(overview: Overview, console: Console) -> None:
    """The sections and missing features as tables, then all findings."""
    title = f"{overview.name}{'  SIMULATED: ' + overview.simulated if overview.simulated else ''}"
    style: dict[str, Any] = {"box": SIMPLE, "pad_edge": False, "collapse_padding": True, "title_justify": "left"}
    table = Table(title=title, **style)
    headings = "section", "cases", "patients", "malignant", "benign", "unknown", "HU", "mm"
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "section" else "right")
    for name, section in overview.sections.items():
        table.add_row(name, *_numbers(section))
    console.print(table)
    missing = Table(title="missing features (cases)", **style)
    for heading in ("feature", *LISTS):
        missing.add_column(heading, justify="left" if heading == "feature" else "right")
    for feature in EHR_FEATURES:
        counts = [section.missing[feature] for section in overview.sections.values()]
        if any(counts):
            missing.add_row(feature, *map(str, counts))
    console.print(missing if missing.row_count else "No feature is missing in any case.")
    padded = [f"{name} {counts}" for name, counts in overview.padding.items() if counts.padded]
    if padded:
        text = "Padded (no image there: mirrored, or air beyond a scan) and left out of losses and errors"
        console.print(f"{text}: {'; '.join(padded)}.", soft_wrap=True, highlight=False)
    lossy = [f"{name} {each.lossy} of {len(each.hu)}" for name, each in overview.sections.items() if each.lossy]
    if lossy:
        text = "Of pixels that were compressed with loss before they were cut"
        console.print(f"{text}: {', '.join(lossy)} crops.", soft_wrap=True, highlight=False)
    for finding in overview.findings:
        console.print(f"[red]wrong:[/red] {finding}", soft_wrap=True, highlight=False)
    for note in overview.notes:
        console.print(f"[yellow]look:[/yellow] {note}", soft_wrap=True, highlight=False)
    console.print(f"{len(overview.findings)} findings." if overview.findings else "Nothing is wrong.")


def _numbers(section: Section) -> list[str]:
    """A section's row of the table."""
    known = section.outcomes[1] + section.outcomes[0]
    share = f"{section.outcomes[1]} ({section.outcomes[1] / known:.0%})" if known else "0"
    counts = [str(section.cases), str(len(section.patients)), share, str(section.outcomes[0])]
    counts.append(str(section.outcomes[None]))
    if not section.hu:
        return [*counts, "", ""]
    low, high = np.array(section.hu).T
    millimetres = [x for x, _ in section.spacing.values()]
    spacing = f"{min(millimetres):.2g}..{max(millimetres):.2g}"
    return [*counts, f"{low.min():.0f}..{high.max():.0f}", spacing]
