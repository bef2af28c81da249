"""Errors that nobody thought of, and those that end a run: what one image meets does not stop the others."""

from __future__ import annotations

import errno
import traceback
from pathlib import Path

from data_prep.errors import DataError, ImageError
from scripts.errors import UserError

SAME_IN_A_ROW = 20
"""So many images in a row that meet the same unforeseen error end a run: it is not the images'."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""What only writing meets."""

NO_PERMISSION = (errno.EACCES, errno.EPERM)


class UnforeseenError(ImageError):
    """An exception that nobody thought of, met at one image; the others may be good.

    Attributes:
        cause: class and place of the exception, the same for the same error.
    """

    def __init__(self, path: Path, error: BaseException) -> None:
        name = type(error).__name__
        frames = traceback.extract_tb(error.__traceback__)
        self.cause = f"{name} at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else name
        super().__init__(path, "unforeseen error", f"{self.cause}. See the image.", error)


def told(error: BaseException) -> str | None:
    """What a command line says of an error that its user can mend; None of all others."""
    if isinstance(error, (DataError, UserError)):
        return str(error)
    if isinstance(error, OSError) and error.errno in (*NO_ROOM, *NO_PERMISSION):
        return f"{error.filename or 'output'}: cannot be written or read ({error.strerror})."
    return None


def ends_run(error: BaseException, output: Path) -> str:
    """Why nothing more can be written to a folder: its disk is full, or there is no permission; else empty."""
    if not isinstance(error, OSError):
        return ""
    there = error.filename is not None and Path(str(error.filename)).absolute().is_relative_to(output.absolute())
    if error.errno in NO_ROOM or (error.errno in NO_PERMISSION and there):
        return (
            f"{output}: cannot be written ({error.strerror}). Make room or name another folder; what is done is kept."
        )
    return ""


class Streak:
    """Ends a run in which the same unforeseen error comes again and again."""

    def __init__(self) -> None:
        self.cause, self.count = "", 0

    def see(self, cause: str, message: str) -> None:
        """Notes what came of an image: ``cause`` of an :class:`UnforeseenError`, empty where there was none.

        Raises:
            DataError: the same came :data:`SAME_IN_A_ROW` times running.
        """
        self.count = (self.count + 1 if cause == self.cause else 1) if cause else 0
        self.cause = cause
        if self.count == SAME_IN_A_ROW:
            raise DataError(
                f"{SAME_IN_A_ROW} images in a row met the same error, and the run ends. The last:\n  {message}"
            )
