"""Options that a run does not read: no reference leads from what it runs to them, so that they would change nothing."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from scripts.options.command_line import parse_options
from scripts.options.configuration import Entry, OptionError, strings

REFERENCE = re.compile(r"[@%](?:::|#)*(\w+)")
"""A reference or macro, also in an expression: the top-level name of what it reads, or a part's of a relative one."""

ANOTHER_FILE = re.compile(r"%.*\.(?:ya?ml|json)\b", re.IGNORECASE)
"""A macro that takes in another file, whose references are not known here."""

ELSEWHERE = frozenset({"bundle_root", "stage", "device", "dataset_dir", "output_dir"})
"""Names that MONAI looks for in a bundle, or the bundle's own code in a configuration (``scripts.training.record``)."""

INSTEAD = {"for_size": "guidance_scale"}
"""Options that are true, and the option whose place they take then."""


def started(arguments: Sequence[str]) -> list[str] | None:
    """The top-level names that ``monai.bundle run`` starts from; None of MONAI's other commands.

    >>> started(["run", "training", "--config_file", "train.yaml"])
    ['training', 'initialize', 'finalize', 'imports']
    """
    import monai.bundle

    (command, *positional), options = parse_options(arguments)
    if command != "run" or "tracking" in options:  # which adds components of its own
        return None
    free = [name for name in inspect.signature(monai.bundle.run).parameters if name not in options]
    given = options | dict(zip(free, positional, strict=False))
    ids = {"run_id": "run", "init_id": "initialize", "final_id": "finalize"}
    return [re.split("::|#", given.get(name, default))[0] for name, default in ids.items()] + ["imports"]


def names_read(configuration: Mapping[str, Any], starts: Sequence[str], given: Iterable[Any]) -> set[str] | None:
    """The top-level names that a run reads, at most; None where that cannot be told.

    What refers to a part is taken to read all of the top-level name that the part is in.

    Args:
        configuration: merged.
        starts: of :func:`started`; the first must be there.
        given: the options' values, which may refer too.
    """
    if starts[0] not in configuration:
        return None  # MONAI says so
    read: set[str] = set()
    texts, names = [*strings(list(given))], {*starts} & configuration.keys()
    while names or texts:
        read |= names
        texts += strings([configuration[name] for name in names])
        if any(ANOTHER_FILE.match(text) for text in texts):
            return None
        names = {name for text in texts for name in REFERENCE.findall(text)} & configuration.keys() - read
        texts = []
    return read


def refuse_unread(
    options: Sequence[Entry], configuration: Mapping[str, Any], settings: Collection[str], starts: Sequence[str]
) -> None:
    """Refuses options that were typed and that nothing reads; overlays, which stages share, may have such settings.

    Args:
        options: of the command line, without MONAI's own.
        configuration: merged, without them.
        settings: names that a file gives a plain value; components are taken, whether anything refers to them or not.
        starts: of :func:`started`.

    Raises:
        OptionError: names the option.
    """
    read = names_read(configuration, starts, [option.value for option in options])
    if read is None:
        return
    typed = {option.id: option for option in options if option.place.startswith("--")}
    for id, option in typed.items():
        name = id.split("::")[0]
        if name in settings and name in configuration and name not in read | ELSEWHERE:
            raise OptionError(
                f"{option.place}: nothing in this stage reads {name}, so that it would change nothing. "
                "Leave it out, or give it to a stage that reads it."
            )
    for name, other in INSTEAD.items():
        if name in typed and other in typed and str(typed[name].value).lower() == "true":
            raise OptionError(f"{typed[other].place}: nothing reads it with --{name} true. Give one of the two.")
