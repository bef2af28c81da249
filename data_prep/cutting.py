"""All crops of one scan, which is the task of a worker. Faults are results, so that one scan cannot stop a run."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from data_prep.errors import ImageError
from data_prep.identity import Names
from scripts.files import write_atomically

CROPS_VERSION = 2
"""Part of every crop's fingerprint; raise it when crops come out differently, so that none is reused."""

Centre = tuple[float, float, float]


@dataclass(frozen=True)
class Recipe:
    """How crops are cut, and where they go.

    Attributes:
        folder: of the dataset that is being made.
        last: of the last run's, where crops may be taken from.
        size, spacing: see :func:`data_prep.images.crops.cut`.
        names: key the fingerprints.
    """

    folder: Path
    last: Path
    size: int
    spacing: float | None
    names: Names


@dataclass(frozen=True)
class Scan:
    """One image, and the crops that are wanted of it: relative path and the nodule's centre (mm, LPS)."""

    image: Path
    wanted: tuple[tuple[str, Centre | None], ...]


@dataclass(frozen=True)
class Result:
    """What became of one crop.

    Attributes:
        crop: relative path.
        reused: taken from an earlier run.
        spacing: mm along its axes.
        fault, reason: why there is none, see :class:`data_prep.errors.ImageError`.
        message: the same, with the file's name.
    """

    crop: str
    reused: bool = False
    spacing: tuple[float, float, float] | None = None
    fault: str = ""
    reason: str = ""
    message: str = ""


def cut_scan(scan: Scan, recipe: Recipe) -> list[Result]:
    """Cuts the crops of one scan, or takes them from an earlier run.

    Memory stays that of one scan's headers and one slice.
    """
    results = []
    for crop, centre in scan.wanted:
        try:
            results.append(_cut_one(scan.image, crop, centre, recipe))
        except ImageError as error:
            results.append(Result(crop, fault=error.fault, reason=error.reason, message=str(error)))
        except Exception as error:  # whatever is wrong with this scan, the others are to be cut
            results.append(failed(crop, scan.image, error))
    return results


def failed(crop: str, image: Path, error: BaseException) -> Result:
    """The result for an unforeseen exception; its message stays out of the dataset, as it may hold identifiers."""
    unforeseen = ImageError(image, "unforeseen error", f"{type(error).__name__}. See the image.", error)
    return Result(crop, fault=unforeseen.fault, reason=unforeseen.reason, message=str(unforeseen))


def _cut_one(image: Path, crop: str, centre: Centre | None, recipe: Recipe) -> Result:
    from data_prep.images import crops

    target = recipe.folder / crop
    files = _files(image)
    facts = (CROPS_VERSION, str(image), [size for size, _ in files], centre, recipe.size, recipe.spacing)
    fingerprint = recipe.names.digest(*facts)
    newest = max(modified for _, modified in files)
    if _reuse((target, recipe.last / crop), target, fingerprint, newest):
        return Result(crop, reused=True, spacing=crops.spacing(target))
    made = crops.cut(image, centre, recipe.size, recipe.spacing)
    crops.save(made, target, fingerprint)
    return Result(crop, spacing=crops.spacing(made))


def _files(image: Path) -> list[tuple[int, int]]:
    """Size and time of change of an image's file, or of the files of its folder and of the folder itself."""
    paths = [image, *sorted(path for path in image.iterdir() if path.is_file())] if image.is_dir() else [image]
    found = [path.stat() for path in paths]
    return [(0 if path.is_dir() else stat.st_size, stat.st_mtime_ns) for path, stat in zip(paths, found, strict=True)]


def _reuse(candidates: Iterable[Path], target: Path, fingerprint: str, newest: int) -> bool:
    """Whether an earlier run's crop was put in place: one of the same fingerprint that is newer than its source."""
    from data_prep.images.crops import description

    for candidate in candidates:
        if candidate.is_file() and candidate.stat().st_mtime_ns > newest and description(candidate) == fingerprint:
            if candidate != target:
                with write_atomically(target) as path:
                    shutil.copy2(candidate, path)
            return True
    return False
