"""Configurations as their files say them, entry by entry: values, lines and comments."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from scripts.errors import UserError


class OptionError(UserError):
    """An option that there is not, or a value that cannot be meant; the message says what was expected."""


@dataclass(frozen=True)
class Entry:
    """One value that a configuration or the command line gives to an option.

    Attributes:
        name: the option, an id such as ``seed`` or ``train::trainer::max_epochs``; ``+`` before it merges.
        value: as YAML or Fire reads it.
        place: where it stands, for messages.
        comment: behind it on its line.
        above: the comment lines right above it.
        numbers: whole numbers and fractions in it, as they are written.
    """

    name: str
    value: Any
    place: str
    comment: str = ""
    above: str = ""
    numbers: tuple[str, ...] = field(default=(), repr=False)

    @property
    def id(self) -> str:
        """The name with ``::`` between its parts, without ``+``."""
        return self.name.lstrip("+").replace("#", "::")


def read_entries(path: str | Path) -> list[Entry]:
    """The top-level entries of a configuration, YAML or JSON, in the file's order."""
    text = Path(path).read_text(encoding="utf-8")
    if str(path).lower().endswith("json"):
        return [Entry(name, value, f"{path}: {name}") for name, value in json.loads(text).items()]
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    root, lines = loader.get_single_node(), text.splitlines()
    entries = []
    for key, node in root.value if isinstance(root, yaml.MappingNode) else ():
        value, number = loader.construct_object(node, deep=True), key.start_mark.line
        place = f"{path}, line {number + 1}: {key.value}"
        comments = _behind(lines, key, node), _above(lines, number)
        entries.append(Entry(key.value, value, place, *comments, tuple(_numbers(node))))
    return entries


def description(path: str | Path) -> str:
    """The comment lines at the head of a YAML file."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return _comment(lines[: next((number for number, line in enumerate(lines) if not line.startswith("#")), 0)])


def strings(content: Any) -> Iterator[str]:
    """All texts among the values of nested mappings and lists."""
    if isinstance(content, str):
        yield content
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, (list, tuple)) else ()
    for part in parts:
        yield from strings(part)


def keys(content: Any) -> Iterator[str]:
    """All keys of nested mappings and lists."""
    if isinstance(content, dict):
        yield from map(str, content)
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, (list, tuple)) else ()
    for part in parts:
        yield from keys(part)


def lookup(content: Any, id: str) -> Any:
    """The value with an id in nested mappings and lists; None where there is none."""
    for part in id.split("::"):
        if isinstance(content, list) and part.isdigit() and int(part) < len(content):
            content = content[int(part)]
        else:
            content = content.get(part) if isinstance(content, dict) else None
    return content


def is_plain(value: Any) -> bool:
    """Whether a value is made of numbers and text alone: no reference, expression, macro or component."""
    return "_target_" not in keys(value) and not any(is_reference(text) for text in strings(value))


def is_reference(value: Any) -> bool:
    """Whether a value refers to others or is computed (MONAI's ``@``, ``%`` and ``$``)."""
    return isinstance(value, str) and value.startswith(("@", "%", "$"))


def is_setting(value: Any) -> bool:
    """Whether an entry is a setting rather than a component, judged by its value: plain, a path or a device.

    >>> is_setting(3), is_setting("$@output_dir + '/models'"), is_setting("$@network_def.to(@device)")
    (True, True, False)
    """
    if isinstance(value, str) and value.startswith("$"):
        return "(" not in value or value.startswith("$torch.device(")
    return is_plain(value)


def _behind(lines: Sequence[str], key: yaml.Node, node: yaml.Node) -> str:
    """The comment on the line of a key: behind its value, or behind the colon of a block."""
    inline = node.style not in ("|", ">") if isinstance(node, yaml.ScalarNode) else node.flow_style
    end = node.end_mark if inline else key.end_mark
    return _comment([re.sub(r"^\s*:?\s*", "", lines[end.line][end.column :])])


def _above(lines: Sequence[str], number: int) -> str:
    start = number
    while start and lines[start - 1].startswith("#"):
        start -= 1
    return _comment(lines[start:number] if start else ())


def _comment(lines: Sequence[str]) -> str:
    return "\n".join(line[1:].removeprefix(" ") for line in lines if line.startswith("#"))


def _numbers(node: yaml.Node) -> Iterator[str]:
    if isinstance(node, yaml.ScalarNode):
        if node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float"):
            yield node.value
        return
    for child in node.value:
        for each in child if isinstance(child, tuple) else (child,):
            yield from _numbers(each)
