"""The command line of ``python -m monai.bundle``: how it is read, and the command to run after a finished one."""

from __future__ import annotations

import logging
import re
import shlex
import sys
from collections.abc import Sequence

logger = logging.getLogger(__name__)

NEXT = {
    "train_autoencoder": "train_unconditional",
    "train_unconditional": "train_conditional",
    "train_conditional": "train_classifier",
    "train_classifier": "inference",
    "inference": "evaluate",
}
"""For each configuration the one to run after it."""

LEFT_OUT = {"demo": "train_unconditional"}
"""By overlay, the configuration that its chain goes without."""

WITHOUT_FOLLOW_UPS = ("predict", "unpaired")
"""Sections of single crops."""

FLAG = re.compile("--|-[a-zA-Z]")
"""How options begin; a negative number is none."""


def parse_options(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Positional arguments and options of a command line, read as Fire does, which MONAI parses it with.

    ``--name value``, ``--name=value`` and ``-name value`` are the same. Without a value ``--name`` is True, and
    ``--noname`` makes ``name`` False.

    >>> parse_options(["run", "training", "--config_file", "train.yaml", "--seed=-1", "--verbose"])
    (['run', 'training'], {'config_file': 'train.yaml', 'seed': '-1', 'verbose': 'True'})
    """
    positional: list[str] = []
    options: dict[str, str] = {}
    rest = list(arguments)
    while rest and rest[0] != "--":  # what follows is for Fire itself
        argument = rest.pop(0)
        if not FLAG.match(argument):
            positional.append(argument)
            continue
        name, equals, value = argument.lstrip("-").partition("=")
        name = name.replace("-", "_")
        if not equals and rest and not FLAG.match(rest[0]):
            value = rest.pop(0)
        elif not equals:
            name, value = (name[2:], "False") if name.startswith("no") else (name, "True")
        options[name] = value
    return positional, options


def next_command(arguments: Sequence[str]) -> str | None:
    """The command to run after a finished one, with the same dataset and output folder; None after the last.

    What has no follow-ups is not evaluated.

    >>> next_command(["run", "training", "--config_file", "configs/train_classifier.yaml", "--output_dir=out"])
    'python -m monai.bundle run --config_file configs/inference.yaml --output_dir out --models_dir out/models'

    Args:
        arguments: those after ``python -m monai.bundle``.
    """
    _, options = parse_options(arguments)
    files = options.get("config_file", "")
    stage = next((name for name in NEXT if re.search(rf"\b{name}\.", files)), None)
    single = "image" in options or options.get("section") in WITHOUT_FOLLOW_UPS
    if stage is None or "direct_classifier" in files or single:
        return None
    following = NEXT[stage]
    if any(following == name and re.search(rf"\b{overlay}\.", files) for overlay, name in LEFT_OUT.items()):
        following = NEXT[following]
    run = ["run", "training"] if following.startswith("train_") else ["run"]
    kept = {"config_file": files.replace(stage, following)}
    kept |= {name: options[name] for name in ("dataset_dir", "section", "output_dir", "models_dir") if name in options}
    if following == "inference":  # else inference would use the bundle's own weights
        kept.setdefault("models_dir", f"{kept.get('output_dir', './runs/default')}/models")
    return " ".join(["python -m monai.bundle", *run, *(f"--{name} {_quoted(value)}" for name, value in kept.items())])


def log_next() -> None:
    """Logs the command to run after this one; does nothing in programs other than ``python -m monai.bundle``."""
    if is_command_line() and (command := next_command(sys.argv[1:])):
        logger.info(f"Next: {command}")


def is_command_line() -> bool:
    """Whether this process is ``python -m monai.bundle``, judged by the name of its main module."""
    return getattr(getattr(sys.modules["__main__"], "__spec__", None), "name", None) == "monai.bundle.__main__"


def end_here() -> None:
    """Ends the program with status 0 if it is ``python -m monai.bundle``: the rest of a configuration is never built.

    MONAI resolves all that a step refers to before the step, so a step cannot be left out by a condition in it.
    """
    if is_command_line():
        raise SystemExit(0)


def _quoted(value: str) -> str:
    """The value quoted for the shell; a list of files in double quotes, as in the documentation."""
    return f'"{value}"' if "'" in value and not set(value) & set('"$`\\!') else shlex.quote(value)
