"""Configurations are read entry by entry, with lines and comments, whatever the locale."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from scripts.options.configuration import description, is_plain, keys, read_entries, strings

CONFIGS = Path(__file__).resolve().parents[3] / "bundle" / "configs"

TEXT = """\
# What it does,
# in two lines.
imports:
- $import os
seed: 23 # of the noise
title: 'a # b' # no comment in the text
shape: {a: [1, 2]} # flow
block: # of a block
  a: 010
# for people
# and others
last: >-
  folded
"""


def test_values_lines_and_comments(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(TEXT)
    entries = {entry.name: entry for entry in read_entries(path)}
    assert {name: entry.value for name, entry in entries.items()} == yaml.safe_load(TEXT)
    assert description(path) == "What it does,\nin two lines."
    comments = {name: entry.comment for name, entry in entries.items() if entry.comment}
    assert comments == {
        "seed": "of the noise",
        "title": "no comment in the text",
        "shape": "flow",
        "block": "of a block",
    }
    assert {name: entry.above for name, entry in entries.items() if entry.above} == {"last": "for people\nand others"}
    assert entries["block"].numbers == ("010",) and entries["shape"].numbers == ("1", "2")
    assert entries["shape"].place == f"{path}, line 7: shape"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_of_ours_is_read_as_yaml_reads_it(path: Path) -> None:
    """And is ASCII, since MONAI reads it in the locale's encoding."""
    assert path.read_bytes().isascii()
    assert {entry.name: entry.value for entry in read_entries(path)} == yaml.safe_load(path.read_bytes())


def test_json_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"rate": 1e-4, "+loss": {"a#b": "\u00e9"}}))
    first, second = read_entries(path)
    assert (first.name, first.value, first.place) == ("rate", 1e-4, f"{path}: rate")
    assert second.id == "loss" and second.value == {"a#b": "\u00e9"}


def test_an_empty_file_has_no_entries(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("# nothing\n")
    assert read_entries(tmp_path / "a.yaml") == []


def test_parts_at_any_depth() -> None:
    content = {"a": [{"_target_": "X", "b": "@c"}, 1], "d": "text"}
    assert list(strings(content)) == ["X", "@c", "text"] and list(keys(content)) == ["a", "d", "_target_", "b"]
    assert not is_plain(content) and not is_plain([{"_target_": "X"}]) and not is_plain("$1")
    assert is_plain({"a": [1, "b"], "c": None})
