"""Errors for people: at the command line they show their message alone, not the machinery that they passed through."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType

USER_ERROR, INTERRUPTED = 2, 130
"""Exit statuses at the command line; 130 is the shell's for a program that Ctrl-C ended (128 + SIGINT)."""


class UserError(ValueError):
    """Something that the person at the keyboard can mend; the message says what is wrong, where, and what to do."""


def show_message_only(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """``sys.excepthook`` of the command line: the message alone of what a person can mend or has asked for.

    MONAI wraps whatever goes wrong while a configuration is resolved, so a :class:`UserError` is looked for among the
    causes. Of any other error everything is shown, as Python does.

    Raises:
        SystemExit: with the exit status 2 for a :class:`UserError` and 130 for Ctrl-C. Python ends with the status of a
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
    """The first names, and how many more there are."""
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
