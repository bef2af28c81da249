"""The one error that people see."""

from __future__ import annotations


class DataError(Exception):
    """Data that break a contract.

    The message is for the person who holds the data: it names the file, the row and column or the DICOM tag, what was
    expected and what to do. Several faults stand one a line. It holds no names, dates or other facts about a patient
    beyond the identifiers of the table.
    """
