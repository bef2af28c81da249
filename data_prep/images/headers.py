"""A fast reader of DICOM headers: a crop needs a few tags of each file of a series, and the pixels of one.

pydicom spends most of its time on nested sequences, which this reader steps over. What is not plain little-endian
DICOM, or is unusual in any way, is left to pydicom; the tests hold this reader against it.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import FileIO
from pathlib import Path
from typing import Any

import pydicom
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement, convert_raw_data_element
from pydicom.tag import BaseTag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

CHUNK = 8192
"""Bytes read at a time; most headers fit into one."""

LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
"""Value representations with four bytes of length (DICOM PS3.5, 7.1.2)."""

UNDEFINED = 0xFFFFFFFF

LONGEST_VALUE = 65536

META_GROUP, ITEM_GROUP, SEQUENCE_END = 0x0002, 0xFFFE, 0xFFFEE0DD

TRANSFER_SYNTAX, PIXELS = 0x00020010, 0x7FE00010

EXPLICIT, IMPLICIT, LENGTH = struct.Struct("<HH2sH"), struct.Struct("<HHI"), struct.Struct("<I")


@dataclass(frozen=True)
class Header:
    """Some tags of one file.

    Attributes:
        tags: those asked for that are there, by keyword, values as pydicom has them.
        syntax: how the pixels are stored.
        whole: whether the file is as long as its pixels say; None where only decoding can tell.
    """

    tags: dict[str, Any]
    syntax: UID
    whole: bool | None


def read_header(path: Path, keywords: Sequence[str]) -> Header:
    """Reads some tags of a DICOM file, none of them within a sequence, and no pixels.

    Raises:
        Exception: whatever pydicom raises at a file that is broken or no DICOM.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            return _walk(_Window(file), {int(tag_for_keyword(keyword) or 0): keyword for keyword in keywords})
    except _Odd as odd:
        item = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=[*keywords])
        tags = {keyword: item[keyword].value for keyword in keywords if keyword in item}
        return Header(tags, UID(item.file_meta.get("TransferSyntaxUID", "")), False if isinstance(odd, _End) else None)


class _Odd(Exception):
    """Something that is better left to pydicom."""


class _End(_Odd):
    """The file ends before its pixels."""


class _Window:
    """The part of a file about the place where one reads."""

    def __init__(self, file: FileIO) -> None:
        self.file, self.start, self.buffer = file, 0, file.read(CHUNK)

    def at(self, position: int, count: int) -> bytes:
        """``count`` bytes from ``position`` on."""
        offset = position - self.start
        if offset + count > len(self.buffer):
            if count > LONGEST_VALUE:
                raise _Odd
            self.file.seek(position)
            self.start, self.buffer, offset = position, self.file.read(max(CHUNK, count)), 0
            if len(self.buffer) < count:
                raise _End
        return self.buffer[offset : offset + count]


def _walk(window: _Window, wanted: dict[int, str]) -> Header:
    """From element to element up to the pixels; through sequences of undefined length by counting their ends."""
    if window.at(128, 4) != b"DICM":
        raise _Odd
    found: dict[str, Any] = {}
    position, depth, syntax, implicit = 132, 0, "", False
    while True:
        tag, representation, length, value_at = _element(window, position, implicit)
        if tag >> 16 == ITEM_GROUP:
            depth -= tag == SEQUENCE_END
            position = value_at + (0 if length == UNDEFINED else length)
        elif tag == PIXELS and not depth:
            return Header(found, UID(syntax), _whole(window, value_at, length))
        elif length == UNDEFINED:
            if representation not in ("SQ", None):
                raise _Odd
            position, depth = value_at, depth + 1
        else:
            position = value_at + length
            if tag == TRANSFER_SYNTAX:
                syntax = window.at(value_at, length).rstrip(b"\0 ").decode("ascii", "replace")
            elif tag in wanted and not depth:
                found[wanted[tag]] = _value(tag, representation or dictionary_VR(tag), window.at(value_at, length))
        if tag >> 16 == META_GROUP and int.from_bytes(window.at(position, 2), "little") != META_GROUP:
            if syntax in ("", ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian):
                raise _Odd
            implicit = syntax == ImplicitVRLittleEndian


@lru_cache(maxsize=1024)
def _value(tag: int, representation: str, stored: bytes) -> Any:
    """A value as pydicom has it; most are the same in all files of a series."""
    raw = RawDataElement(BaseTag(tag), representation, len(stored), stored, 0, False, True)
    return convert_raw_data_element(raw).value


def _element(window: _Window, position: int, implicit: bool) -> tuple[int, str | None, int, int]:
    """Tag, value representation (None where it is implicit), length, and where the value starts."""
    head = window.at(position, 8)
    group, element, length = IMPLICIT.unpack(head)
    if implicit or group == ITEM_GROUP:
        return group << 16 | element, None, length, position + 8
    representation = head[4:6]
    if not (representation.isalpha() and representation.isupper()):
        raise _Odd
    if representation in LONG:
        length = LENGTH.unpack(window.at(position + 8, 4))[0]
        return group << 16 | element, representation.decode(), length, position + 12
    return group << 16 | element, representation.decode(), EXPLICIT.unpack(head)[3], position + 8


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
