"""All crops of one scan, which is the task of a worker. Faults are results, so that one scan cannot stop a run.

What an earlier run cut is taken where the image's files are untouched, as their size, inode and times say. Where those
differ, as of a copy, the crop is cut again and the content decides: a crop that comes out as it was counts as reused.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from data_prep.errors import ImageError
from data_prep.identity import Names
from data_prep.unforeseen import UnforeseenError, ends_run
from scripts.files import write_atomically, write_text

CROPS_VERSION = 4
"""Raise it when crops come out differently, so that none is reused unseen."""

MADE = "crops.jsonl"
"""The file of a dataset that says how each crop was made, one a line: :class:`Made`."""

Centre = tuple[float, float, float]


@dataclass(frozen=True)
class Recipe:
    """How crops are cut, and where they go.

    Attributes:
        folder: of the dataset that is being made.
        last: of the last run's, where crops may be taken from.
        size, spacing, transform: see :func:`data_prep.images.crops.cut`.
        names: key the digests.
    """

    folder: Path
    last: Path
    size: int
    spacing: float | None
    names: Names
    transform: str | None = None


@dataclass(frozen=True)
class Made:
    """How a crop was made.

    Attributes:
        crop: relative path.
        seen: keyed digest of what was asked for, of what the file system said of the image, and of what came out.
        unpadded, point: see :func:`data_prep.images.crops.cut`.
        placed: whether a point was given.
    """

    crop: str
    seen: str
    unpadded: list[int]
    point: str | None
    placed: bool


@dataclass(frozen=True)
class Wanted:
    """A crop that is wanted: its relative path, the nodule's centre (mm, LPS), and how earlier runs made it."""

    crop: str
    centre: Centre | None = None
    earlier: tuple[Made, ...] = ()


@dataclass(frozen=True)
class Scan:
    """One image, and the crops that are wanted of it; ``series_uid`` names the series of a folder with several."""

    image: Path
    wanted: tuple[Wanted, ...]
    series_uid: str | None = None


@dataclass(frozen=True)
class Result:
    """What became of one crop.

    Attributes:
        crop: relative path.
        made: how it was made; None where there is none.
        reused: it is as an earlier run left it.
        spacing: mm along its axes.
        lossy: of pixels that were compressed with loss.
        fault, reason: why there is none, see :class:`data_prep.errors.ImageError`.
        message: the same, with the file's name.
        cause: of an unforeseen error, see :class:`data_prep.unforeseen.UnforeseenError`.
        stop: why no further crop can be written.
    """

    crop: str
    made: Made | None = None
    reused: bool = False
    spacing: tuple[float, float, float] | None = None
    lossy: bool = False
    fault: str = ""
    reason: str = ""
    message: str = ""
    cause: str = ""
    stop: str = ""


def cut_scan(scan: Scan, recipe: Recipe) -> list[Result]:
    """Cuts the crops of one scan, or takes them from an earlier run.

    Memory stays that of one scan's headers and one slice.
    """
    results = []
    for wanted in scan.wanted:
        try:
            results.append(_cut_one(scan, wanted, recipe))
        except ImageError as error:
            results.append(Result(wanted.crop, fault=error.fault, reason=error.reason, message=str(error)))
        except Exception as error:  # whatever is wrong with this scan, the others are to be cut
            stop = ends_run(error, recipe.folder)
            results.append(Result(wanted.crop, stop=stop) if stop else failed(wanted.crop, scan.image, error))
    return results


def failed(crop: str, image: Path, error: BaseException) -> Result:
    """The result for an unforeseen exception; its message stays out of the dataset, as it may hold identifiers."""
    unforeseen = UnforeseenError(image, error)
    return Result(
        crop, fault=unforeseen.fault, reason=unforeseen.reason, message=str(unforeseen), cause=unforeseen.cause
    )


def _cut_one(scan: Scan, wanted: Wanted, recipe: Recipe) -> Result:
    from data_prep.images import crops
    from data_prep.images.files import stamp

    target = recipe.folder / wanted.crop
    places = [place for place in (target, recipe.last / wanted.crop) if place.is_file()]
    there = {crops.description(place): place for place in reversed(places)}
    chosen = (recipe.size, recipe.spacing, recipe.transform, scan.series_uid)
    found = stamp(scan.image)
    asked = (CROPS_VERSION, wanted.centre, *chosen, found)
    seen = {recipe.names.digest(*asked, description): description for description in there}
    for made in wanted.earlier:
        if made.seen in seen:
            _put(there[seen[made.seen]], target)
            return Result(made.crop, made, True, crops.spacing(target), crops.is_lossy(target))
    crop = crops.cut(scan.image, wanted.centre, *chosen, found)
    description = crops.save(crop, target)
    made = Made(wanted.crop, recipe.names.digest(*asked, description), placed=wanted.centre is not None, **crop.extra)
    return Result(wanted.crop, made, description in there, crops.spacing(crop), crops.is_lossy(crop))


def _put(crop: Path, target: Path) -> None:
    if crop != target:
        with write_atomically(target) as path:
            shutil.copy2(crop, path)


def read_made(folder: Path) -> dict[str, Made]:
    """How the crops in a dataset's folder were made, by crop; what cannot be read is passed over, and cut again."""
    path, found = folder / MADE, {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            made = Made(**json.loads(line))
        except (ValueError, TypeError):  # a run was stopped while it wrote
            continue
        found[made.crop] = made
    return found


def made_line(made: Made) -> str:
    """The line of the file."""
    return json.dumps(asdict(made)) + "\n"


def write_made(folder: Path, made: Iterable[Made]) -> None:
    """Writes the file, sorted by crop."""
    write_text(folder / MADE, "".join(made_line(each) for each in sorted(made, key=lambda each: each.crop)))
