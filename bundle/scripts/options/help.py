"""The page of ``--help``: the options of a configuration, with their values and comments."""

from __future__ import annotations

import contextlib
import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from scripts.options.check import read_command_line
from scripts.options.command_line import parse_options
from scripts.options.configuration import Entry, description, is_reference, is_setting, keys, read_entries, strings
from scripts.options.unread import ELSEWHERE, names_read, started


def help_is_asked_for(arguments: Sequence[str]) -> bool:
    """Whether a command line has ``--help`` or ``-h``.

    >>> help_is_asked_for(["run", "--config_file", "inference.yaml", "--help"])
    True
    """
    return not {"help", "h"}.isdisjoint(parse_options(arguments)[1])


def print_help(arguments: Sequence[str]) -> None:
    """Prints what the configurations of a command line do, and their options, to standard output.

    Args:
        arguments: those after ``python -m monai.bundle``.
    """
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    read = read_command_line(arguments)
    if read is None:
        return
    files = read[1]
    entries = [read_entries(path) for path in files]
    options, others = split_options(entries)
    values = resolved({entry.id: entry.value for entry in options}, {entry.id: entry.value for entry in others})
    unread = unread_names(arguments, entries)
    table = Table(box=SIMPLE, pad_edge=False, collapse_padding=True)
    for heading in ("option", "value", "meaning"):
        table.add_column(heading, overflow="fold")
    for option in (option for option in options if option.id not in unread):
        table.add_row(*map(Text, (f"--{option.id}", shown(values[option.id]), option.comment)))
    console = Console(highlight=False, markup=False)
    console.print("\n\n".join(map(description, files)))
    console.print(table)
    for other in others:
        if other.above:
            console.print(f"{other.id}: {other.above}")
    console.print("Also, with arguments such as --inferer::num_runs 3:", ", ".join(other.id for other in others))


def split_options(files: Sequence[Sequence[Entry]]) -> tuple[list[Entry], list[Entry]]:
    """The options of configurations, and their other top-level entries, with the last values and the first comments.

    What an overlay adds is left out where nothing of the stage refers to it: it is for another stage.

    Args:
        files: the entries of each, in the order in which they are merged.
    """
    merged: dict[str, Entry] = {}
    options: set[str] = set()
    for entry in (entry for entries in files for entry in entries if "::" not in entry.id and entry.id != "imports"):
        former = merged.get(entry.id, entry)
        value = entry.value
        if entry.name.startswith("+") and entry.id in merged:
            value = former.value | value if isinstance(value, dict) else [*former.value, *value]
        comment, above = former.comment or entry.comment, former.above or entry.above
        merged[entry.id] = replace(entry, value=value, comment=comment, above=above)
        if is_setting(entry.value):
            options.add(entry.id)
    used = {entry.id for entry in files[0]}
    values = [entry.value for entries in files for entry in entries if entry.id in used or "::" in entry.id]
    while values:
        referred = set(re.findall(r"[@%](\w+)", "\n".join(strings(values)))) & merged.keys() - used
        values = [merged[name].value for name in referred]
        used |= referred
    kept = [entry for name, entry in merged.items() if name in used]
    return [each for each in kept if each.id in options], [each for each in kept if each.id not in options]


def unread_names(arguments: Sequence[str], files: Sequence[Sequence[Entry]]) -> set[str]:
    """The top-level names of configurations that the run does not read, as far as that can be told."""
    from monai.bundle import ConfigParser
    from monai.bundle.utils import merge_kv

    parser = ConfigParser(config={})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is merged into nothing
        for entry in (entry for entries in files for entry in entries):
            merge_kv(parser, entry.name.replace("#", "::"), entry.value)
    starts = started(arguments)
    read = None if starts is None else names_read(parser.get(), starts, ())
    return set() if read is None else parser.get().keys() - read - ELSEWHERE


def resolved(options: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    """Options with references and expressions replaced by their values, where these need no component."""
    from monai.bundle import ConfigParser

    simple = options | {
        name: value
        for name, value in others.items()
        if "_target_" not in keys(value) and not any(text.startswith("%") or "(" in text for text in strings(value))
    }
    values = dict(options)
    for name in [name for name, value in options.items() if is_reference(value)]:
        with contextlib.suppress(KeyError, ValueError, RuntimeError):  # it needs a component
            values[name] = ConfigParser(dict(simple)).get_parsed_content(name)
    return values


def shown(value: Any) -> str:
    """A value as YAML has it on one line."""
    return json.dumps(value) if isinstance(value, (dict, list, bool, type(None))) else str(value)
