"""A fast reader of DICOM headers: a crop needs a few tags of each file of a series, and the pixels of one.

pydicom spends most of its time on nested sequences, which this reader steps over. What is not plain little-endian
DICOM, or is unusual in any way, is left to pydicom; the tests hold this reader against it. Two faults of writers are
read through: files without a preamble or without meta information, and data that are explicit where the meta
information says implicit, or the other way round.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import FileIO
from pathlib import Path
from string import ascii_uppercase as UPPER
from typing import Any

import pydicom
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement, convert_raw_data_element
from pydicom.errors import InvalidDicomError
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

CHUNK = 8192
"""Bytes read at a time; most headers fit into one."""

REPRESENTATIONS = {f"{first}{second}".encode(): f"{first}{second}" for first in UPPER for second in UPPER}
"""Two capital letters stand where data are explicit; which of them mean something, pydicom knows."""

LONG = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
"""Value representations with four bytes of length (DICOM PS3.5, 7.1.2)."""

UNDEFINED = 0xFFFFFFFF

LONGEST_VALUE = 65536

META_GROUP, ITEM_GROUP, SEQUENCE_END = 0x0002, 0xFFFE, 0xFFFEE0DD

FIRST_GROUPS = (META_GROUP, 0x0008)
"""What a file without preamble begins with: meta information, or the data at once."""

TRANSFER_SYNTAX, PIXELS = 0x00020010, 0x7FE00010

EXPLICIT, IMPLICIT, LENGTH = struct.Struct("<HH2sH"), struct.Struct("<HHI"), struct.Struct("<I")


class Malformed(str):
    """Why a value cannot be read."""


@dataclass(frozen=True)
class Header:
    """Some tags of one file.

    Attributes:
        tags: those asked for that are there, by keyword, values as pydicom has them; :class:`Malformed` where it has
            none.
        syntax: how the pixels are stored.
        whole: whether the file is as long as its pixels say; None where only decoding can tell, or nobody asked.
    """

    tags: dict[str, Any]
    syntax: UID
    whole: bool | None


def read_header(path: Path | str, keywords: Sequence[str], to_pixels: bool = True) -> Header:
    """Reads some tags of a DICOM file, none of them within a sequence, and no pixels.

    Args:
        path: the file.
        keywords: of the tags.
        to_pixels: go on to the pixels, to see whether the file is whole; else only to the last tag that is asked for.

    Raises:
        InvalidDicomError: no DICOM, or its beginning is damaged.
        Exception: whatever pydicom raises at a file that is broken.
    """
    wanted = _tags(tuple(keywords))
    try:
        with FileIO(path) as file:
            return _walk(_Window(file), wanted, PIXELS if to_pixels else max(wanted))
    except _Odd as odd:
        item = read_whole(path, stop_before_pixels=True, specific_tags=[*keywords])
        tags = {keyword: _asked(item, keyword) for keyword in keywords if keyword in item}
        return Header(tags, item.file_meta.TransferSyntaxUID, False if isinstance(odd, _End) else None)


def read_whole(path: Path | str, **options: Any) -> pydicom.FileDataset:
    """What pydicom reads of a DICOM file; where it has no meta information, with the syntax that its data are in.

    Raises:
        InvalidDicomError: no DICOM.
    """
    with FileIO(path) as file:
        _start(_Window(file))
    item = pydicom.dcmread(path, force=True, **options)
    if not item.file_meta.get("TransferSyntaxUID"):
        implicit, _ = item.original_encoding
        item.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    return item


@lru_cache(maxsize=8)
def _tags(keywords: tuple[str, ...]) -> dict[int, str]:
    """Keywords by their tags."""
    return {int(tag_for_keyword(keyword) or 0): keyword for keyword in keywords}


def _asked(item: pydicom.Dataset, keyword: str) -> Any:
    """A value that pydicom converts now."""
    try:
        return item[keyword].value
    except Exception as error:  # pydicom raises what it likes
        return Malformed(error)


class _Odd(Exception):
    """Something that is better left to pydicom."""


class _End(_Odd):
    """The file ends before its pixels."""


class _Window:
    """The part of a file about the place where one reads."""

    def __init__(self, file: FileIO) -> None:
        self.file, self.start, self.buffer = file, 0, file.read(CHUNK)

    def offset(self, position: int, count: int) -> int:
        """Where the ``count`` bytes from ``position`` on begin in ``buffer``; read if they are not there yet."""
        offset = position - self.start
        if offset + count <= len(self.buffer):
            return offset
        if count > LONGEST_VALUE:
            raise _Odd
        self.file.seek(position)
        self.start, self.buffer = position, self.file.read(max(CHUNK, count))
        if len(self.buffer) < count:
            raise _End
        return 0

    def at(self, position: int, count: int) -> bytes:
        """``count`` bytes from ``position`` on."""
        offset = self.offset(position, count)
        return self.buffer[offset : offset + count]


def _start(window: _Window) -> int:
    """Where the first element stands: behind the preamble, or at once where there is none."""
    head = window.buffer[:132]
    if head[128:] == b"DICM":
        return 132
    if len(head) >= 8:
        group, element, _ = IMPLICIT.unpack(head[:8])
        if group in FIRST_GROUPS and element < 0x100:
            return 0
    raise InvalidDicomError("no DICOM: neither a preamble nor a data element at its beginning")


def _walk(window: _Window, wanted: dict[int, str], last: int) -> Header:
    """From element to element up to ``last``; through sequences of undefined length by counting their ends."""
    syntax, position = _meta_information(window, _start(window))
    syntax, implicit = _encoding(window, position, syntax)
    found: dict[str, Any] = {}
    depth = 0
    while True:
        tag, representation, length, value_at = _element(window, position, implicit)
        if tag >> 16 == ITEM_GROUP:
            depth -= tag == SEQUENCE_END
            position = value_at + (0 if length == UNDEFINED else length)
        elif depth and length != UNDEFINED:
            position = value_at + length
        elif tag > last and not depth:
            return Header(found, _uid(syntax), None)
        elif tag == PIXELS and not depth:
            return Header(found, _uid(syntax), _whole(window, value_at, length))
        elif length == UNDEFINED:
            if representation not in ("SQ", None):
                raise _Odd
            position, depth = value_at, depth + 1
        else:
            position = value_at + length
            if tag in wanted:
                found[wanted[tag]] = _value(tag, representation or dictionary_VR(tag), window.at(value_at, length))


def _meta_information(window: _Window, position: int) -> tuple[str, int]:
    """The transfer syntax that the file says, empty where it says none, and where the data begin."""
    syntax = ""
    while int.from_bytes(window.at(position, 2), "little") == META_GROUP:
        tag, _, length, value_at = _element(window, position, False)
        if length == UNDEFINED:
            raise _Odd
        if tag == TRANSFER_SYNTAX:
            syntax = window.at(value_at, length).rstrip(b"\0 ").decode("ascii", "replace")
        position = value_at + length
    return syntax, position


def _encoding(window: _Window, position: int, syntax: str) -> tuple[str, bool]:
    """The transfer syntax, and whether the data that begin here are implicit: they themselves tell, as in pydicom."""
    if syntax in (ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian):
        raise _Odd
    implicit = window.at(position + 4, 2) not in REPRESENTATIONS
    return syntax or (ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian), implicit


_uid = lru_cache(maxsize=32)(UID)
"""Of the transfer syntaxes, which take long to check."""


@lru_cache(maxsize=1024)
def _value(tag: int, representation: str, stored: bytes) -> Any:
    """A value as pydicom has it; most are the same in all files of a series."""
    raw = RawDataElement(BaseTag(tag), representation, len(stored), stored, 0, False, True)
    try:
        return convert_raw_data_element(raw).value
    except Exception as error:  # pydicom raises what it likes
        return Malformed(error)


def _element(window: _Window, position: int, implicit: bool) -> tuple[int, str | None, int, int]:
    """Tag, value representation (None where it is implicit), length, and where the value starts."""
    offset = window.offset(position, 8)
    group, element, letters, length = EXPLICIT.unpack_from(window.buffer, offset)
    if implicit or group == ITEM_GROUP:
        return group << 16 | element, None, LENGTH.unpack_from(window.buffer, offset + 4)[0], position + 8
    representation = REPRESENTATIONS.get(letters)
    if representation is None:
        raise _Odd
    if representation in LONG:
        offset = window.offset(position + 8, 4)
        return group << 16 | element, representation, LENGTH.unpack_from(window.buffer, offset)[0], position + 12
    return group << 16 | element, representation, length, position + 8


def _whole(window: _Window, position: int, length: int) -> bool | None:
    """Whether the pixels, and all fragments of compressed ones, lie within the file."""
    size = os.fstat(window.file.fileno()).st_size
    if length != UNDEFINED:
        return position + length <= size
    while position + 8 <= size:
        tag, _, length, value_at = _element(window, position, True)
        if tag == SEQUENCE_END:
            return True
        position = value_at + length
    return False
