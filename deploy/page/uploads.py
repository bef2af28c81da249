"""Files from a browser: written to a folder as they arrive, under names of our own, within bounds."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from deploy.page.refusal import Refusal
from deploy.worker.guard import MOST_FILES

LONGEST_HEADER = 4096
"""Bytes of the header of one part."""

PATIENCE_S = 30.0
"""Between two pieces of a request."""

Header = list[tuple[bytes, bytes]]


async def receive(
    pieces: AsyncIterator[bytes], content_type: str, folder: Path, most_bytes: int, ignored: bytes | None = None
) -> int:
    """Writes the files of a multipart request to a folder.

    Args:
        pieces: of the request's body.
        folder: empty.
        most_bytes: of the body.
        ignored: the name of a field that clients send beside the files.

    Returns:
        How many there are.

    Raises:
        Refusal: no files, not multipart, too many or too much, or a browser that stopped sending.
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 1 <= len(boundary) <= 70:
        raise Refusal(415, "Expected files as multipart/form-data.")
    parts, total = _Parts(folder, ignored), 0
    try:
        parser = MultipartParser(boundary, parts.callbacks())
        iterator = aiter(pieces)
        while True:
            try:
                piece = await asyncio.wait_for(anext(iterator), PATIENCE_S)
            except StopAsyncIteration:
                break
            total += len(piece)
            if total > most_bytes:
                raise Refusal(413, f"More than {most_bytes >> 20} MB. Load the one series that is meant.")
            parser.write(piece)
        parser.finalize()
    except TimeoutError as error:
        raise Refusal(408, "The upload stopped on its way. Try again.") from error
    except FormParserError as error:
        raise Refusal(400, "The upload is malformed. Try again.") from error
    finally:
        parts.close()
    if not parts.ended:
        raise Refusal(400, "The upload ends before its end. Try again.")
    if not parts.count:
        raise Refusal(400, "No files came. Choose a folder with a DICOM series, a zip file of one, or a NIfTI file.")
    return parts.count


def safe_name(number: int, name: str) -> str:
    """Under which a file is kept: its number, and of its name what is harmless, which readers go by.

    >>> safe_name(7, "../../a b/IM 0001.dcm")
    '00007-IM0001.dcm'
    """
    last = re.split(r"[/\\]", name)[-1]
    return f"{number:05d}-{re.sub(r'[^A-Za-z0-9.]', '', last)[-40:]}"


def passed_over(name: str) -> bool:
    """Whether a file is none of a series by its name, as those that systems leave in folders."""
    last = re.split(r"[/\\]", name)[-1]
    return last.startswith(".") or last.upper() in ("DICOMDIR", "THUMBS.DB", "DESKTOP.INI") or "__MACOSX" in name


class _Parts:
    """The parts of a request as they come."""

    def __init__(self, folder: Path, ignored: bytes | None) -> None:
        self.folder, self.ignored, self.count, self.ended = folder, ignored, 0, False
        self.file: BinaryIO | None = None
        self.field, self.value, self.headers = b"", b"", dict[bytes, bytes]()

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self.begin,
            "on_header_field": self.on_field,
            "on_header_value": self.on_value,
            "on_header_end": self.on_header,
            "on_headers_finished": self.on_headers,
            "on_part_data": self.on_data,
            "on_part_end": self.close,
            "on_end": self.end,
        }

    def begin(self) -> None:
        self.headers = {}

    def on_field(self, data: bytes, start: int, end: int) -> None:
        self.field = self._bounded(self.field + data[start:end])

    def on_value(self, data: bytes, start: int, end: int) -> None:
        self.value = self._bounded(self.value + data[start:end])

    def on_header(self) -> None:
        self.headers[self.field.lower()] = self.value
        self.field = self.value = b""
        if len(self.headers) > 8:
            raise Refusal(400, "The upload is malformed. Try again.")

    def on_headers(self) -> None:
        _, options = parse_options_header(self.headers.get(b"content-disposition", b""))
        name = options.get(b"filename")
        if name is None and self.ignored is not None and options.get(b"name") == self.ignored:
            return
        if name is None:
            raise Refusal(400, "Expected files and nothing else.")
        text = name.decode("utf-8", "replace")
        if passed_over(text):
            return
        if self.count == MOST_FILES:
            raise Refusal(413, f"More than {MOST_FILES} files. Load the one series that is meant.")
        self.file = (self.folder / safe_name(self.count, text)).open("xb")
        self.count += 1

    def on_data(self, data: bytes, start: int, end: int) -> None:
        if self.file is not None:
            self.file.write(data[start:end])

    def end(self) -> None:
        self.ended = True

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None

    @staticmethod
    def _bounded(header: bytes) -> bytes:
        if len(header) > LONGEST_HEADER:
            raise Refusal(400, "The upload is malformed. Try again.")
        return header
