"""The check of all options before any work: their names, and their values."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from scripts.errors import listed
from scripts.options.command_line import parse_options
from scripts.options.configuration import Entry, OptionError, is_plain, is_setting, keys, lookup, read_entries, strings
from scripts.options.unread import refuse_unread, started
from scripts.options.values import IN_PLACE_OF_NULL, misread_number, wrong_value

RENAMED = {"guidance": "guidance_scale", "null_share": "condition_dropout"}
"""Former names of options, and their present names."""

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def check_options(arguments: Sequence[str]) -> None:
    """Refuses names that no configuration has or nothing reads, former names, and values that cannot be meant.

    Names and values of the files and of the command line are checked in the order in which they replace each other.

    Args:
        arguments: those after ``python -m monai.bundle``.

    Raises:
        OptionError: names the option and where it stands, and what was expected or probably meant.
    """
    import monai.bundle  # imported here, since it is slow and every program imports this package

    read = read_command_line(arguments)
    if read is None:
        return
    command, files, options = read
    reserved = {"_meta_", "workflow_type", "workflow_name", "properties_path"}
    reserved |= {name for each in (command, monai.bundle.run) for name in inspect.signature(each).parameters}
    if any(option.name == "tracking" for option in options):
        from monai.bundle.utils import DEFAULT_MLFLOW_SETTINGS

        reserved |= {*DEFAULT_MLFLOW_SETTINGS["configs"]}  # type: ignore[misc]
    configuration = Configuration(reserved)
    for path in files:
        configuration.add_file(path)
    configuration.check_used()
    for option in options:
        configuration.check_option(option)
    if (starts := started(arguments)) is not None:
        own = [option for option in options if option.id not in reserved]
        refuse_unread(own, configuration.parser.get(), configuration.settings, starts)


def read_command_line(arguments: Sequence[str]) -> tuple[Any, list[str], list[Entry]] | None:
    """MONAI's command, the configurations and the options of a command line; None where it names no configuration.

    Those of an ``args_file`` are among the options, unless the command line replaces them.
    """
    import monai.bundle
    from fire.parser import DefaultParseValue

    positional, texts = parse_options(arguments)
    command: Any = getattr(monai.bundle, positional[0], None) if positional else None
    options = {name: Entry(name, DefaultParseValue(text), f"--{name}") for name, text in texts.items()}
    for name in [name for name, text in texts.items() if "#" in text]:  # which Fire takes for a comment
        options[name] = Entry(name, texts[name], f"--{name}")
    if "args_file" in texts:
        options = {entry.name: entry for entry in read_entries(texts["args_file"])} | options
    if command is None or "config_file" not in options:
        return None
    files = options["config_file"].value
    return command, files.split(",") if isinstance(files, str) else list(files), list(options.values())


class Configuration:
    """Configurations merged as MONAI merges them; every name and value is checked before it is.

    Args:
        reserved: names of options that are MONAI's own.
    """

    def __init__(self, reserved: Collection[str]) -> None:
        from monai.bundle import ConfigParser

        self.parser = ConfigParser(config={})
        self.reserved = set(reserved)
        self.files: list[Path] = []
        self.defaults: dict[str, Any] = {}
        """By name, the first plain value, whose kind later ones must have."""
        self.added: list[Entry] = []
        """Plain values with names that only an overlay has."""
        self.settings: set[str] = set()
        """Names that a file gives a plain value, or one computed of such values alone."""

    def add_file(self, path: str) -> None:
        """Checks a file's entries and merges them."""
        from monai.bundle.utils import merge_kv

        for entry in read_entries(path):
            _refuse_former(entry)
            if "::" in entry.id:
                self._check_name(entry)
            elif self.files and entry.id not in self.parser.get() and is_plain(entry.value):
                self.added.append(entry)
            if number := misread_number(entry.numbers):
                raise OptionError(
                    f"{entry.place}: found {number}, which YAML reads as another number (010 is 8, 1:30 is 90); "
                    "expected a number without leading zeros or colons."
                )
            self._check_value(entry)
            if "::" not in entry.id and is_setting(entry.value):
                self.settings.add(entry.id)
            merge_kv(self.parser, entry.name.replace("#", "::"), entry.value)
            if is_plain(entry.value) and entry.value is not None:
                self.defaults.setdefault(entry.id, entry.value)
        self.files.append(Path(path))

    def check_used(self) -> None:
        """Refuses what overlays added, where nothing refers to it and no other configuration has it."""
        text = "\n".join(strings(self.parser.get()))
        unused = [entry for entry in self.added if not re.search(rf"[@%]{re.escape(entry.id)}\b", text)]
        if unused:
            files = {path for folder in (CONFIGS, self.files[0].parent) for path in folder.resolve().glob("*.yaml")}
            files -= {path.resolve() for path in self.files[1:]}
            texts = [path.read_text(encoding="utf-8", errors="replace") for path in files]
            known = {name for text in texts for name in re.findall(r"^\+?(\w+)(?=:|#)", text, re.MULTILINE)}
            for entry in unused:
                if entry.id not in known:
                    raise _unknown(entry, entry.id, known, "no configuration has it, and nothing refers to it")

    def check_option(self, option: Entry) -> None:
        """Checks an option of the command line."""
        _refuse_former(option)
        if option.id in self.reserved:
            return
        self._check_name(option)
        if option.value is None and lookup(self.parser.get(), option.id) is not None:
            raise OptionError(
                f"{option.place}: MONAI passes over None on the command line; expected a value, or "
                f"`{option.name}: null` in an overlay."
            )
        self._check_value(option)
        self._check_whole(option)

    def _check_name(self, entry: Entry) -> None:
        content: Any = self.parser.get()
        for depth, part in enumerate(parts := entry.id.split("::")):
            if isinstance(content, list) and part.isdigit() and int(part) < len(content):
                content = content[int(part)]
                continue
            if not isinstance(content, dict) or part == "_meta_":
                return  # of a reference, or refused by MONAI
            last = depth == len(parts) - 1
            if part not in content and not (last and depth and _takes(content, part)):
                known = set(content) | (set() if depth else self.reserved)
                raise _unknown(entry, part, known, f"{'::'.join(parts[:depth]) or 'the configuration'} has no {part}")
            content = content.get(part)

    def _check_whole(self, option: Entry) -> None:
        """Refuses a mapping in place of another one that has more; components may be replaced."""
        content, value = lookup(self.parser.get(), option.id), option.value
        if not isinstance(content, dict) or not isinstance(value, dict) or "_target_" in value:
            return
        if dropped := sorted(content.keys() - value.keys()):
            raise OptionError(
                f"{option.place}: would drop {listed(dropped)}, as it replaces all of {option.id}. Name what changes, "
                f"such as --{option.id}::{next(iter(value), dropped[0])}, or give all of it."
            )

    def _check_value(self, entry: Entry) -> None:
        default = self.defaults.get(entry.id, lookup(self.parser.get(), entry.id))
        if default is None and entry.value is not None:
            default = IN_PLACE_OF_NULL.get(entry.id)
        if wrong := wrong_value(entry.value, default):
            raise OptionError(f"{entry.place}: found {wrong[0]!r}, expected {wrong[1]}.")
        if entry.id.split("::")[-1] == "seed" and isinstance(entry.value, int) and entry.value < 0:
            raise OptionError(f"{entry.place}: found {entry.value}, expected 0 or more.")


def _takes(arguments: dict[str, Any], name: str) -> bool:
    """Whether a mapping of arguments takes another one: of a component, or plain and with no name that is nearly it."""
    return "_target_" in arguments or (is_plain(arguments) and not get_close_matches(name, arguments, 1, cutoff=0.9))


def _unknown(entry: Entry, name: str, known: Collection[str], reason: str) -> OptionError:
    near = get_close_matches(name, known, n=1)
    dashes = "--" if entry.place.startswith("--") and "::" not in entry.id else ""
    meant = f"Did you mean {dashes}{near[0]}?" if near else "--help lists the options."
    return OptionError(f"{entry.place}: {reason}. {meant}")


def _refuse_former(entry: Entry) -> None:
    for name in [entry.id.split("::")[-1], *keys(entry.value)]:
        if name in RENAMED:
            raise OptionError(f"{name} is called {RENAMED[name]} now: rename it ({entry.place}).")
