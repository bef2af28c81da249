"""Digests by which a dataset, or a case of it, is known again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scripts.data.datalist import DatalistError, load_datalist


def digest_dataset(dataset_dir: str | Path) -> str:
    """SHA-256 of a dataset folder: the content of its datalist, and every crop that the datalist names.

    Raises:
        DatalistError: no datalist, a malformed one, or a crop that is not there.
    """
    folder, datalist = Path(dataset_dir), load_datalist(dataset_dir)
    digest = hashlib.sha256(json.dumps(datalist, sort_keys=True).encode())
    for crop in sorted(set(_crops(datalist))):
        try:
            digest.update(crop.encode() + (folder / crop).read_bytes())
        except OSError as error:
            raise DatalistError(
                f"{folder / crop}: {folder / 'datalist.json'} names this crop, but it cannot be read "
                f"({error.strerror}). Copy the dataset again, whole."
            ) from error
    return digest.hexdigest()


def digest_case(baseline: str | Path, report: str) -> str:
    """SHA-256 of what a prediction is made from: the baseline crop's file and the report."""
    return hashlib.sha256(Path(baseline).read_bytes() + report.encode()).hexdigest()


def _crops(datalist: Mapping[str, Any]) -> Iterator[str]:
    """The crops of all sections, as they stand in the datalist."""
    for section in datalist.values():
        for entry in section if isinstance(section, list) else ():
            yield from (entry[key] for key in ("baseline", "follow_up", "image") if key in entry)
