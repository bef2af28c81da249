"""The folder of a stage: opened by one job at a time, for the run whose checkpoints lie in it or for a new one."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from filelock import FileLock, Timeout

from scripts.errors import UserError, listed
from scripts.files import read_mapping, remove, write_json
from scripts.fingerprint import comparable, digest_weights
from scripts.options.command_line import end_here, is_command_line, log_next
from scripts.training.engines import stop_process_group
from scripts.training.record import refuse_another

logger = logging.getLogger(__name__)

LAST, BEST, PUBLISHED = "last.pt", "best.pt", "published.json"
"""Files in a stage's folder: the last epoch, the best epoch, and what was published."""

CONTENT = ("*.pt", ".partial-*", PUBLISHED, "provenance.json", "events.out.tfevents.*")
"""Patterns of the files that training writes into a stage's folder."""


def open_stage(
    folder: str | Path,
    record: Mapping[str, Any],
    max_epochs: int,
    models_dir: str | Path,
    restart: bool | str = False,
) -> FileLock | None:
    """Opens a stage's folder before anything is built, and ends the program where nothing is left to do.

    With ``restart``, what an earlier run left in the folder is removed; so is what a run left that ended before its
    first checkpoint. A stage that is trained and published already ends the program, every rank of it, with status 0 if
    it is ``python -m monai.bundle``, so that no network is built and no language model opened; in other programs its
    run does nothing.

    Args:
        folder: of the stage.
        record: of :func:`scripts.training.stage_record`.
        max_epochs: at which the stage has finished.
        models_dir: where its weights are published.
        restart: true forgets the earlier run.

    Returns:
        The lock, which is released with the process or when nothing refers to it any more; None on other ranks.

    Raises:
        UserError: another job has the folder open, ``last.pt`` is damaged or lacks beside epochs that were kept, it is
            of other data or settings, or the epoch that it would publish comes after ``max_epochs``.
    """
    if str(restart).lower() not in ("true", "false"):
        raise UserError(f"restart is {restart!r}, expected true or false.")
    folder, lock = Path(folder), None
    if idist.get_rank() == 0:
        lock = _lock(folder)
        if str(restart).lower() != "true":
            _refuse_remains(folder)
        if str(restart).lower() == "true" or not (folder / LAST).is_file():
            _clear(folder)
    idist.barrier()
    if not (folder / LAST).is_file():
        return lock
    state = read_checkpoint(folder / LAST, mmap=True)
    refuse_another(folder / LAST, state.get("record"), record)
    _refuse_fewer_epochs(folder / LAST, state["progress"], record, max_epochs)
    first = idist.get_rank() == 0
    finished = first and _is_finished(folder, state["progress"], record, max_epochs, Path(models_dir))
    if idist.broadcast(float(finished)):  # what the first rank saw, so that all of them end, or none
        if first:
            logger.info(
                f"{folder.name} was trained and published before: nothing to do. --restart true trains it again."
            )
            log_next()
        if torch.distributed.is_initialized() and is_command_line():
            stop_process_group()
        end_here()
    return lock


def needed(option: str) -> None:
    """Stands in a configuration for an option that must be given.

    Raises:
        UserError: always, where it was not.
    """
    raise UserError(f"--{option} is missing. Without validation no epoch is the best; give the number that is known.")


def read_checkpoint(path: str | Path, mmap: bool = False) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU.

    Args:
        mmap: leave the tensors on disk until they are used.

    Raises:
        UserError: the file is damaged, as by a disk that was full or a copy that was cut off.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise UserError(
            f"{path}: not a readable checkpoint, perhaps cut off. Copy it again, or give --restart true, which clears "
            "the stage's folder and trains from the start."
        ) from error


def write_published(
    folder: str | Path, record: Mapping[str, Any], best: Mapping[str, Any], paths: Iterable[str | Path]
) -> None:
    """Notes what was published of which run, so that calling the stage again has nothing to do.

    Args:
        best: epoch and loss that were published.
        paths: files and folders of weights that were written.
    """
    files = {Path(path).name: digest_weights(path) for path in paths}
    write_json(Path(folder) / PUBLISHED, {"best": best, "files": files, "record": dict(record)})


def _refuse_remains(folder: Path) -> None:
    """Refuses a folder with epochs of an earlier run from which no run can go on: they would be removed."""
    left = [path.name for pattern in (BEST, "epoch_*.pt", PUBLISHED) for path in sorted(folder.glob(pattern))]
    if left and not (folder / LAST).is_file():
        raise UserError(
            f"{folder}: holds {listed(left)} of an earlier run, but no {LAST} to go on from. Put that back, give "
            "another --output_dir, or --restart true, which clears the folder (weights, best epoch, curves) and trains "
            "from the start."
        )


def _refuse_fewer_epochs(path: Path, progress: Mapping[str, Any], record: Mapping[str, Any], max_epochs: int) -> None:
    """Refuses fewer epochs than that of the weights that would be published: these would pass for fewer epochs'."""
    published = record.get("settings", {}).get("publish_epoch") or progress["best_epoch"]
    if published > max_epochs:
        raise UserError(
            f"{path}: epoch {published} of {progress['epoch']} would be published, which comes after --max_epochs "
            f"{max_epochs}. Give --max_epochs {progress['epoch']}, another --output_dir, or --restart true, which "
            f"clears {path.parent} (weights, best epoch, curves) and trains from the start."
        )


def _is_finished(
    folder: Path, progress: Mapping[str, Any], record: Mapping[str, Any], max_epochs: int, models_dir: Path
) -> bool:
    """Whether the run has ended, and its best epoch is published as it would be now."""
    path = folder / PUBLISHED
    if not path.is_file() or not (progress["stopped"] or progress["epoch"] >= max_epochs):
        return False
    published = read_mapping(path)
    return comparable(published["record"]) == comparable(record) and all(
        (models_dir / name).exists() and digest_weights(models_dir / name) == digest
        for name, digest in published["files"].items()
    )


def _lock(folder: Path) -> FileLock:
    """The lock of a folder: the operating system's, which no killed process leaves behind."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", is_singleton=True)  # one a process, which may open its folder again
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise UserError(
            f"{folder}: another job is training here. Wait until it has ended, or give this one another --output_dir."
        ) from error
    return lock


def _clear(folder: Path) -> None:
    """Removes what training wrote into a stage's folder."""
    for pattern in CONTENT:
        for path in folder.glob(pattern):
            remove(path)
