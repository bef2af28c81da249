"""The settings that belong to a conditioner's weights; they lie beside the weights, in ``settings.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.errors import UserError
from scripts.files import read_mapping, write_json

FILE = "settings.json"
"""Its name in a conditioner's folder."""

OPTION = "--conditioner_arguments::"
"""What precedes a setting's name on the command line."""


def language_model_place(llm: Any) -> str | None:
    """Where a language model is opened again: ``embedded``, an id, or a whole path; None for a pair, which has none."""
    if isinstance(llm, tuple):
        return None
    return str(Path(llm).absolute()) if llm != "embedded" and Path(llm).exists() else str(llm)


def write_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Writes arguments of :class:`scripts.conditioning.ReportConditioner` into a conditioner's folder."""
    write_json(folder / FILE, _plain(settings))


def read_settings(folder: str | Path) -> dict[str, Any] | None:
    """What :func:`write_settings` wrote; None in folders of versions before 0.7, which have no such file.

    Raises:
        UserError: the file is damaged.
    """
    path = Path(folder) / FILE
    return read_mapping(path) if path.is_file() else None


def arguments_of(folder: str | Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments to open a conditioner's folder with: those of its training, whatever is given besides.

    Args:
        folder: of :meth:`scripts.conditioning.ReportConditioner.save_pretrained`.
        given: arguments; those that are None count as not given. Another ``llm`` is where the same language model lies
            now, which the prompts check by its name.

    Raises:
        UserError: an argument contradicts the training, or the language model's folder is no longer there.
    """
    given = {name: value for name, value in given.items() if value is not None}
    stored = read_settings(folder)
    if stored is None:
        return given
    asked = _plain({name: value for name, value in given.items() if name != "llm"})
    wrong = [name for name, value in asked.items() if name in stored and value != stored[name]]
    if wrong:
        faults = ", ".join(f"{name} is {asked[name]!r}, but was {stored[name]!r} in training" for name in wrong)
        options = " and ".join(f"{OPTION}{name}" for name in wrong)
        raise UserError(
            f"{folder}: {faults}. Leave {options} out, since the weights bring their settings, or train again."
        )
    llm = given.get("llm", stored.get("llm"))
    if llm is None or (isinstance(llm, str) and Path(llm).is_absolute() and not Path(llm).exists()):
        raise UserError(
            f"{folder}: trained with the language model {llm or 'of a Python object'}, which is not here. Say where it "
            f"is with {OPTION}llm, a folder or an id in the Hugging Face cache."
        )
    return {**stored, **given}


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON has them: a torch.dtype by its name, a path as text, a set as a sorted list."""
    return json.loads(json.dumps(dict(settings), default=_simple))


def _simple(value: Any) -> Any:
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return dict(value) if isinstance(value, Mapping) else str(value).removeprefix("torch.")
