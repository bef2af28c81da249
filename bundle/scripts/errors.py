"""Errors that a user can correct; at the command line they show their message, without a traceback."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType

USER_ERROR, INTERRUPTED = 2, 130
"""Exit statuses of the command line; 130 is what shells report for a program ended by Ctrl-C (128 + SIGINT)."""


class UserError(ValueError):
    """An error that the user can correct; the message says what is wrong, where, and what to do."""


def show_message_only(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """``sys.excepthook`` of the command line: prints a :class:`UserError` or Ctrl-C as a message, without a traceback.

    MONAI wraps every error that is raised while a configuration is resolved, so a :class:`UserError` is looked for
    among the causes too. Any other error is shown with its traceback, as Python does.

    Raises:
        SystemExit: with status 2 for a :class:`UserError` and 130 for Ctrl-C. Python exits with the status of a
            ``SystemExit`` that its hook raises, after all clean-up.
    """
    if issubclass(kind, KeyboardInterrupt):
        print(
            "\nInterrupted. Whole epochs of a training and whole cases of an inference are kept.\n"
            "Give the same command again to go on from there; an evaluation begins anew.",
            file=sys.stderr,
        )
        raise SystemExit(INTERRUPTED)
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, UserError):
        cause = cause.__cause__ or cause.__context__
    if cause is not None:
        print(f"error: {cause}", file=sys.stderr)
        raise SystemExit(USER_ERROR)
    sys.__excepthook__(kind, error, traceback)


def listed(names: Sequence[str], limit: int = 5) -> str:
    """The first names in one line, and how many more there are.

    >>> listed(["a", "b", "c"], limit=2)
    'a, b and 1 more'
    """
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
