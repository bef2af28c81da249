"""Errors for people: the message alone of what they can mend, everything of all else."""

from __future__ import annotations

import pytest

from scripts.errors import UserError, listed, show_message_only


def chained(cause: BaseException, explicit: bool) -> BaseException:
    """An error that two others were raised from, or while handling, as MONAI wraps them."""
    try:
        try:
            try:
                raise cause
            except type(cause) as error:
                if explicit:
                    raise RuntimeError("wrapped") from error
                raise RuntimeError("wrapped")  # noqa: B904
        except RuntimeError as error:
            raise KeyError("wrapped again") from error
    except KeyError as error:
        return error


@pytest.mark.parametrize("explicit", [True, False])
def test_a_users_error_is_found_along_the_chain(capsys: pytest.CaptureFixture[str], explicit: bool) -> None:
    error = chained(UserError("table.csv: no column age. Add it."), explicit)
    with pytest.raises(SystemExit):
        show_message_only(type(error), error, error.__traceback__)
    assert capsys.readouterr().err == "error: table.csv: no column age. Add it.\n"


def test_any_other_error_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    error = chained(ZeroDivisionError("a fault of the program"), True)
    show_message_only(type(error), error, error.__traceback__)
    shown = capsys.readouterr().err
    assert "Traceback" in shown and "ZeroDivisionError: a fault of the program" in shown and "wrapped again" in shown


@pytest.mark.parametrize(
    ("count", "limit", "text"), [(0, 5, ""), (1, 5, "n0"), (5, 5, "n0, n1, n2, n3, n4"), (4, 2, "n0, n1 and 2 more")]
)
def test_long_lists_are_cut(count: int, limit: int, text: str) -> None:
    assert listed([f"n{index}" for index in range(count)], limit) == text


@pytest.mark.parametrize(("error", "status"), [(UserError("mend it"), 2), (KeyboardInterrupt(), 130)])
def test_the_exit_status_is_the_shells(capsys: pytest.CaptureFixture[str], error: BaseException, status: int) -> None:
    with pytest.raises(SystemExit) as ended:
        show_message_only(type(error), error, None)
    assert ended.value.code == status and "Traceback" not in capsys.readouterr().err
