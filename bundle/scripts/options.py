"""Options of the command line ``python -m monai.bundle``: unknown ones are refused, and the next command is suggested.

MONAI itself accepts any option as a value of the configuration; a misspelt one would be ignored without a word.
"""

from __future__ import annotations

import ast
import inspect
import logging
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any

from scripts.errors import UserError

logger = logging.getLogger(__name__)

RENAMED = {"guidance": "guidance_scale", "null_share": "condition_dropout"}
"""Former names of options, and their present names."""

NEXT = {
    "train_autoencoder": "train_unconditional",
    "train_unconditional": "train_conditional",
    "train_conditional": "train_classifier",
    "train_classifier": "inference",
    "inference": "evaluate",
}
"""For each configuration the one to run after it."""


class OptionError(UserError):
    """An unknown or renamed option; the message names the one that was probably meant."""


def parse_options(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Positional arguments and options of a command line; ``--name value`` and ``--name=value`` are the same.

    >>> parse_options(["run", "training", "--config_file", "train.yaml", "--seed=1", "--verbose"])
    (['run', 'training'], {'config_file': 'train.yaml', 'seed': '1', 'verbose': 'True'})
    """
    positional: list[str] = []
    options: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("--"):
            positional.append(argument)
            continue
        name, equals, value = argument.removeprefix("--").partition("=")
        if not equals:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else "True"
        options[name.replace("-", "_")] = value  # as Fire does, which MONAI parses the command line with
    return positional, options


def check_options(arguments: Sequence[str]) -> None:
    """Refuses options that the configuration does not have, and former names, on the command line and in its files.

    Args:
        arguments: those after ``python -m monai.bundle``.

    Raises:
        OptionError: names the option, and the one that was probably meant.
    """
    import monai.bundle  # imported here, since it is slow and every program imports this module
    from monai.bundle import ConfigParser
    from monai.bundle.utils import DEFAULT_MLFLOW_SETTINGS

    positional, options = parse_options(arguments)
    command: Any = getattr(monai.bundle, positional[0], None) if positional else None
    if "args_file" in options:
        options = ConfigParser.load_config_file(options["args_file"]) | options
    if command is None or "config_file" not in options:
        return
    files = _literal(options["config_file"])
    configuration = ConfigParser.load_config_files(files)
    for name in [*options, *_keys([configuration, *map(_literal, options.values())])]:
        if (former := re.split("::|#", name)[-1]) in RENAMED:
            raise OptionError(f"{former} is called {RENAMED[former]} now: rename it on the command line or in {files}.")
    known = {re.split("::|#", name.lstrip("+"))[0] for name in configuration} | {"_meta_"}
    known |= set(inspect.signature(command).parameters) | {"workflow_type", "workflow_name", "properties_path"}
    if "tracking" in options:
        known |= {*DEFAULT_MLFLOW_SETTINGS["configs"]}  # type: ignore[misc]
    for name in options:
        top = re.split("::|#", name.lstrip("+"))[0]
        if top not in known:
            near = get_close_matches(top, known, n=1)
            meant = f"Did you mean --{near[0]}?" if near else f"Options are the names at the top of {files}."
            raise OptionError(f"--{name}: the configuration has no {top}. {meant}")


def next_command(arguments: Sequence[str]) -> str | None:
    """The command to run after a finished one, with the same dataset and output folder; None after the last.

    >>> next_command(["run", "training", "--config_file", "configs/train_classifier.yaml", "--output_dir=out"])
    'python -m monai.bundle run --config_file configs/inference.yaml --output_dir out --models_dir out/models'

    Args:
        arguments: those after ``python -m monai.bundle``.
    """
    _, options = parse_options(arguments)
    files = options.get("config_file", "")
    stage = next((name for name in NEXT if re.search(rf"\b{name}\.", files)), None)
    if stage is None or "direct_classifier" in files or "image" in options:
        return None
    following = NEXT[stage]
    run = ["run", "training"] if following.startswith("train_") else ["run"]
    kept = {"config_file": files.replace(stage, following)}
    kept |= {name: options[name] for name in ("dataset_dir", "output_dir", "models_dir") if name in options}
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


def _quoted(value: str) -> str:
    """The value quoted for the shell; a list of files in double quotes, as in the documentation."""
    return f'"{value}"' if "'" in value and not set(value) & set('"$`\\!') else shlex.quote(value)


def _literal(value: Any) -> Any:
    """The value of a Python literal, such as the list "['a.yaml','b.yaml']"; any other text as it is."""
    try:
        return ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return value


def _keys(configuration: Any) -> Iterator[str]:
    """All keys of nested dictionaries and lists."""
    if isinstance(configuration, dict):
        yield from configuration
        configuration = list(configuration.values())
    if isinstance(configuration, list):
        for each in configuration:
            yield from _keys(each)
