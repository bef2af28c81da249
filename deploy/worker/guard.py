"""Strangers' files are read for the first time in a process that may take so much memory and time, and no more.

Small files were seen to take over a gigabyte, or minutes, in reading. What ends this process ends no worker; what it
says is a line of JSON, since whatever else it prints may hold values of a patient.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import deploy  # noqa: F401  which makes the bundle's `scripts` importable
from data_prep.errors import DataError, ImageError
from data_prep.single import cut_single
from data_prep.unforeseen import NO_ROOM
from deploy import archive
from deploy.dicom_out.source import open_source
from deploy.dicom_out.write import quiet
from deploy.flags import flags
from deploy.request import Request, RequestError, check_identity, read_request
from deploy.request_sr import read_request_sr
from deploy.worker.spool import REQUESTS, SERIES
from scripts.files import whole_folder

MEMORY_BYTES, SECONDS = 4 << 30, 300
"""Address space and time of reading one study."""

MOST_FILES, MOST_BYTES = 5000, 1 << 32
"""Of a study."""

UPLOAD = "upload.zip"
"""In a study, what came by HTTP."""

TOO_MUCH = "request: its files cannot be read within the memory and time that a study gets; they may be damaged."


def guarded(study: Path, request: Path, memory: int = MEMORY_BYTES, seconds: float = SECONDS) -> None:
    """Reads all that a prediction will read of a study, in a process of its own; of an upload, unpacks it.

    Raises:
        RequestError: what is wrong, or that reading took too much.
        OSError: the disk is full, which is no fault of the study.
    """
    told = limited("deploy.worker.guard", [str(study), str(request)], memory, seconds)
    if told["no_room"]:
        raise OSError(told["no_room"], "no room for what an upload holds")
    if told["refused"]:
        raise RequestError(told["refused"])


def limited(
    module: str, arguments: Sequence[str], memory: int = MEMORY_BYTES, seconds: float = SECONDS
) -> dict[str, Any]:
    """What a module prints as JSON, run in a process of its own.

    Args:
        module: takes the arguments and, last, the bytes of address space to which it limits itself.

    Raises:
        RequestError: it took too much, or says nothing.
    """
    command = [sys.executable, "-m", module, *arguments, str(memory)]
    root = Path(__file__).resolve().parents[2]
    try:
        done = subprocess.run(
            command, cwd=root, timeout=seconds, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False
        )
        return json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError) as error:
        raise RequestError(TOO_MUCH) from error


def read(path: Path) -> Request:
    """A request from its file, by the ending of its name."""
    return read_request(path) if path.suffix == ".json" else read_request_sr(path)


def check_size(study: Path) -> None:
    """Refuses what no series of CT is: links to elsewhere, too many files, too much.

    Raises:
        RequestError: which.
    """
    paths = [path for path in study.rglob("*") if not path.is_dir() or path.is_symlink()]
    if any(path.is_symlink() or not path.is_file() for path in paths):
        raise RequestError("request: the study has links or special files; expected DICOM files alone.")
    if len(paths) > MOST_FILES or sum(path.stat().st_size for path in paths) > MOST_BYTES:
        raise RequestError(f"request: the study has more than {MOST_FILES} files or {MOST_BYTES} bytes.")


def unpack(study: Path) -> None:
    """Unpacks an upload: its request by name, all else as files of the series; no other name of it is used.

    Raises:
        RequestError: no zip, too much in it, or no request.
    """

    def named(number: int, name: str) -> str:
        return last if (last := Path(name).name) in REQUESTS else f"{number:05d}.dcm"

    with whole_folder(study / SERIES) as folder:
        try:
            archive.unpack(study / UPLOAD, folder, named, MOST_FILES, MOST_BYTES)
        except archive.ArchiveError as error:
            raise RequestError(f"request: the upload {error}") from error
        found = [name for name in REQUESTS if (folder / name).is_file()]
        if len(found) != 1:
            raise RequestError(f"request: the upload has {len(found)} of {', '.join(REQUESTS)}; expected one.")
    os.replace(study / SERIES / found[0], study / found[0])
    (study / UPLOAD).unlink()


def refused(study: Path, request: Path) -> str:
    """Why a study cannot be worked on, without a path or a value; empty where it can.

    Raises:
        OSError: the disk is full.
    """
    try:
        if request.name == UPLOAD:
            unpack(study)
            return ""
        check_size(study)
        asked = read(request)
        check_identity(asked, study)
        with quiet():
            open_source(study, asked.point, asked.series_uid)
            crop = cut_single(study, asked.point, series_uid=asked.series_uid)
            flags(study, asked.point, asked.record, crop, series_uid=asked.series_uid)
    except ImageError as error:
        return error.reason
    except (DataError, RequestError) as error:
        return str(error)
    except MemoryError:
        return TOO_MUCH
    except Exception as error:  # readers raise what they like
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise
        return f"request: unforeseen {type(error).__name__} in reading its files."
    return ""


def main(study: str, request: str, memory: str) -> None:
    """Prints a JSON object with ``refused``, and ``no_room``: how a full disk calls itself, or 0."""
    resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
    told: dict[str, Any] = {"refused": "", "no_room": 0}
    try:
        told["refused"] = refused(Path(study), Path(request))
    except OSError as error:
        told["no_room"] = error.errno
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
