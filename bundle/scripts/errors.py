"""Errors for people: at the command line they show their message alone, not the machinery that they passed through."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType


class UserError(ValueError):
    """Something that the person at the keyboard can mend; the message says what is wrong, where, and what to do."""


def show_message_only(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """``sys.excepthook``: of an uncaught error that a :class:`UserError` caused, the message; of others, everything.

    MONAI wraps whatever goes wrong while a configuration is resolved, so the cause is looked for along the chain.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, UserError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        sys.__excepthook__(kind, error, traceback)
    else:
        print(f"error: {cause}", file=sys.stderr)


def listed(names: Sequence[str], limit: int = 5) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
