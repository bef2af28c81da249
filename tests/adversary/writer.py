"""DICOM files byte by byte (PS3.5, PS3.10): no library would write most of what the adversary needs."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from numpy.typing import NDArray
from pydicom.datadict import dictionary_VR, tag_for_keyword

LONG = {"OB", "OD", "OF", "OL", "OW", "SQ", "UC", "UN", "UR", "UT"}
BINARY = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FD": "d", "FL": "f"}
UNDEFINED = 0xFFFFFFFF
PIXELS = 0x7FE00010
EXPLICIT, IMPLICIT, BIG, DEFLATED, RLE = (
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.5",
)
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"


@dataclass(frozen=True)
class Raw:
    """A value as bytes, with the representation that is written for it."""

    vr: str
    value: bytes


@dataclass(frozen=True)
class Items:
    """A sequence, of known or of undefined length."""

    items: tuple[Mapping[str, Any], ...]
    undefined: bool = False


def file(tags: Mapping[str | int, Any], syntax: str, pixels: bytes | None, claimed: str | None = None) -> bytes:
    """A whole file.

    Args:
        tags: by keyword or number; text, numbers, :class:`Raw` or :class:`Items`.
        syntax: how it is written.
        pixels: as they are in the file; None: none.
        claimed: the transfer syntax that the header names; None: that which it is.
    """
    claimed = claimed or syntax
    meta = encoded(
        {"FileMetaInformationVersion": Raw("OB", b"\0\1"), 0x00020002: Raw("UI", _text(CT_IMAGE, b"\0"))}, EXPLICIT
    )
    meta += encoded({0x00020003: Raw("UI", _text(str(tags.get("SOPInstanceUID", "1.2.3")), b"\0"))}, EXPLICIT)
    meta += encoded({0x00020010: Raw("UI", _text(claimed, b"\0")), 0x00020012: Raw("UI", b"1.2.3\0")}, EXPLICIT)
    head = bytes(128) + b"DICM" + encoded({0x00020000: Raw("UL", struct.pack("<I", len(meta)))}, EXPLICIT) + meta
    body = encoded(tags, syntax)
    if pixels is not None:
        body += _pixel_element(pixels, syntax)
    if syntax == DEFLATED:
        deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        body = deflate.compress(body) + deflate.flush()
        body += bytes(len(body) % 2)
    return head + body


def encoded(tags: Mapping[str | int, Any], syntax: str) -> bytes:
    """Elements in the order of their tags."""
    numbered = sorted((tag if isinstance(tag, int) else _number(tag), value) for tag, value in tags.items())
    return b"".join(_element(tag, value, syntax) for tag, value in numbered)


def stored_bytes(stored: NDArray[Any], syntax: str, bits: int = 16) -> bytes:
    """Stored values, (rows, columns), as the pixels of a file have them."""
    if syntax == RLE:
        return _run_length(stored.astype(f"u{bits // 8}"))
    return stored.astype(f"{'>' if syntax == BIG else '<'}u{bits // 8}").tobytes()


@cache
def _number(keyword: str) -> int:
    number = tag_for_keyword(keyword)
    assert number is not None, keyword
    return number


@cache
def _representation(tag: int) -> str:
    return str(dictionary_VR(tag)).split(" or ")[0]


def _element(tag: int, value: Any, syntax: str) -> bytes:
    if isinstance(value, Items):
        return _sequence(tag, value, syntax)
    if isinstance(value, Raw):
        return _head(tag, value.vr, len(value.value), syntax) + value.value
    values = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    return _plain(tag, values, syntax)


@lru_cache(maxsize=20000)
def _plain(tag: int, values: tuple[Any, ...], syntax: str) -> bytes:
    vr = _representation(tag)
    if vr in BINARY:
        content = struct.pack(f"{'>' if syntax == BIG else '<'}{len(values)}{BINARY[vr]}", *values)
    else:
        text = "\\".join(f"{value:.10g}" if isinstance(value, float) else str(value) for value in values)
        content = _text(text, b"\0" if vr == "UI" else b" ")
    return _head(tag, vr, len(content), syntax) + content


def _text(text: str, padding: bytes) -> bytes:
    content = text.encode("latin-1")
    return content + padding * (len(content) % 2)


def _head(tag: int, vr: str, length: int, syntax: str) -> bytes:
    order, (group, element) = ">" if syntax == BIG else "<", divmod(tag, 0x10000)
    if syntax == IMPLICIT:
        return struct.pack("<HHI", group, element, length)
    if vr in LONG:
        return struct.pack(f"{order}HH2sHI", group, element, vr.encode(), 0, length)
    return struct.pack(f"{order}HH2sH", group, element, vr.encode(), length)


def _sequence(tag: int, sequence: Items, syntax: str) -> bytes:
    order = ">" if syntax == BIG else "<"
    content = b""
    for item in sequence.items:
        inner = encoded(item, syntax)
        length = UNDEFINED if sequence.undefined else len(inner)
        content += struct.pack(f"{order}HHI", 0xFFFE, 0xE000, length) + inner
        content += struct.pack(f"{order}HHI", 0xFFFE, 0xE00D, 0) * sequence.undefined
    content += struct.pack(f"{order}HHI", 0xFFFE, 0xE0DD, 0) * sequence.undefined
    return _head(tag, "SQ", UNDEFINED if sequence.undefined else len(content), syntax) + content


def _pixel_element(pixels: bytes, syntax: str) -> bytes:
    if syntax != RLE:
        return _head(PIXELS, "OW", len(pixels), syntax) + pixels
    items = struct.pack("<HHIHHI", 0xFFFE, 0xE000, 0, 0xFFFE, 0xE000, len(pixels)) + pixels
    return _head(PIXELS, "OB", UNDEFINED, syntax) + items + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def _run_length(stored: NDArray[Any]) -> bytes:
    """RLE (PS3.5, annex G) in literal runs alone: a segment for each byte of a value, the high one first."""
    planes = stored.astype(">u2", order="C").view("u1").reshape(-1, 2).T
    segments = []
    for plane in planes:
        content = plane.tobytes()
        runs = [content[start : start + 128] for start in range(0, len(content), 128)]
        segment = b"".join(bytes([len(run) - 1]) + run for run in runs)
        segments.append(segment + bytes(len(segment) % 2))
    offsets = [64, 64 + len(segments[0])]
    return struct.pack("<16I", 2, *offsets, *[0] * 13) + b"".join(segments)
