"""The errors that people see."""

from __future__ import annotations

from pathlib import Path


class DataError(Exception):
    """Data that break a contract.

    The message is for the person who holds the data: it names the file, the row and column or the DICOM tag, what was
    expected and what to do. Several faults stand one a line. It holds no names, dates or other facts about a patient
    beyond the identifiers of the table.
    """


class ImageError(DataError):
    """An image that cannot be used.

    Attributes:
        fault: what is wrong, by name; the same words for the same fault, so that they can be counted.
        reason: fault and explanation. It names no file and no identifier, so that it may stand in a dataset.
    """

    def __init__(self, path: Path, fault: str, explanation: str, detail: object = None) -> None:
        """``detail`` is for the message alone, as others' words may hold identifiers."""
        self.fault, self.reason = fault, f"{fault}: {explanation}"
        super().__init__(f"{path}: {self.reason}{f' ({detail})' if detail else ''}")


MAX_FAULTS = 50


def listing(path: Path | str, faults: list[str]) -> str:
    """The message of a table's faults: how many, the first of them, one a line."""
    more = [f"  ... and {len(faults) - MAX_FAULTS} more"] if len(faults) > MAX_FAULTS else []
    title = f"{path}: {len(faults)} fault{'s' * (len(faults) > 1)} (the header is row 1)"
    return "\n".join([title, *(f"  {fault}" for fault in faults[:MAX_FAULTS]), *more])
