"""Values: each kind against each default; what is bent is named down to the part."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser

from scripts.options.values import misread_number, read_truths, wrong_value
from tests.bundle.helpers import CONFIGS
from tests.bundle.training.helpers import load

KINDS: dict[str, Any] = {"whole": 3, "fraction": 0.5, "text": "a", "truth": True, "list": [1], "map": {"a": 1}}


@pytest.mark.parametrize("default", KINDS)
@pytest.mark.parametrize("given", [*KINDS, "nothing"])
def test_a_value_has_the_kind_of_its_default(given: str, default: str) -> None:
    right = given == default or (given, default) == ("whole", "fraction")
    assert (wrong_value(KINDS.get(given), KINDS[default]) is None) == right


@pytest.mark.parametrize("value", [*KINDS.values(), None, (1, 2), "@other", "$1 + 1", "%file.yaml#id"])
@pytest.mark.parametrize("default", [None, "$@other", "@other", []])
def test_any_value_is_right_where_the_kind_is_not_known(value: Any, default: Any) -> None:
    assert wrong_value(value, default) is None


def test_text_is_a_truth_value_for_whatever_reads_it() -> None:
    """At any depth, for references and for whoever looks at the configuration as it stands."""
    content = {"on": "true", "part": {"off": "False", "list": ["TRUE", "trueish"]}, "seen": "$[@on, @part::off]"}
    parser = ConfigParser({**content, "read": "$read()"}, globals={"read": read_truths})
    parser.get_parsed_content("read")
    assert parser.get_parsed_content("seen") == [True, False] and parser["on"] is True
    assert parser["part"] == parser.get_parsed_content("part") == {"off": False, "list": [True, "trueish"]}
    read_truths()  # nothing is being resolved


@pytest.mark.processes
def test_a_stage_trains_with_text_for_a_truth_value(tiny_dataset: Path, tmp_path: Path) -> None:
    """Which torch would not take; its record says what any other spelling does."""
    configs = [str(CONFIGS / f"{each}.yaml") for each in ("train_classifier", "small")]
    options = {"deterministic": "true", "restart": "false", "image_size": 32, "max_epochs": 1, "batch_size": 2}
    options |= {"classifier_shape": {"channels": [4, 4, 8, 8]}, "dataset_dir": tiny_dataset, "output_dir": tmp_path}
    command = [sys.executable, "-m", "monai.bundle", "run", "training", "--config_file", str(configs)]
    command += [part for name, value in options.items() for part in (f"--{name}", str(value))]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    settings = load(tmp_path / "classifier" / "last.pt")["record"]["settings"]
    assert settings["deterministic"] is True and "deterministic" not in result.stderr


@pytest.mark.parametrize(
    "text", ["1e-4", "1E5", "5", "-3", ".5", "2.", "1_000", "true", "FALSE", "null", "None", "inf"]
)
def test_text_that_stands_for_something_else_is_wrong_wherever_it_is(text: str) -> None:
    for value in (text, [text], (text,), {"a": {"b": [0, text]}}):
        wrong = wrong_value(value)
        assert wrong is not None and wrong[0] == text and "it is text here" in wrong[1]


@pytest.mark.parametrize("text", ["5", "1e-4", "2024"])
def test_text_may_look_like_a_number_where_text_is_expected(text: str) -> None:
    assert wrong_value(text, "./runs/default") is None


@pytest.mark.parametrize("text", ["e5", "1e-4-model", "v2.0", "3.5-sonata", "trueish", "none-small", "a:b", "x~y", ""])
def test_other_text_is_text(text: str) -> None:
    assert wrong_value(text, "") is None


def test_parts_of_another_component_are_not_compared() -> None:
    default = {"_target_": "A", "keys": "image", "prob": 0.5}
    assert wrong_value({"_target_": "B", "keys": ["image"], "prob": [0.1, 0.2]}, default) is None
    assert wrong_value({"_target_": "A", "keys": ["image"]}, default) is not None


@pytest.mark.parametrize(("written", "found"), [("010", "010"), ("-007", "-007"), ("12:30:45", "12:30:45")])
def test_numbers_that_yaml_reads_as_others_are_found(written: str, found: str) -> None:
    assert misread_number(["1", written]) == found


def test_other_numbers_are_as_they_are_written() -> None:
    assert misread_number(["0", "10", "-3", "0.5", "1_000", "1.0e-4", "0x1f", ".inf"]) is None
