"""The command line is read as Fire reads it, and the next command follows on a finished one."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import fire
import pytest

from scripts.data.datalist import SINGLE
from scripts.options.check import check_options
from scripts.options.command_line import LEFT_OUT, NEXT, WITHOUT_FOLLOW_UPS, next_command, parse_options

CONFIGS = Path(__file__).resolve().parents[3] / "bundle" / "configs"
INFERENCE = ["run", "--config_file", str(CONFIGS / "inference.yaml")]


@pytest.mark.parametrize(
    "line",
    [
        "training --seed 3 --verbose --rate=-1",
        "--num-runs 2 -solver dpmpp training",
        "--norestart --name=a=b",
        "--seed -3 -h",
        "--limit=",
    ],
)
def test_options_are_those_of_fire(line: str) -> None:
    def run(run_id: Any = None, **override: Any) -> dict[str, Any]:
        return override | ({} if run_id is None else {"run_id": run_id})

    positional, options = parse_options(line.split())
    ours = {name: fire.parser.DefaultParseValue(value) for name, value in options.items()}
    assert ours | dict(zip(["run_id"], positional, strict=False)) == fire.Fire(run, line.split())


def test_what_follows_two_dashes_is_for_fire() -> None:
    assert parse_options(["run", "--seed", "3", "--", "--help"]) == (["run"], {"seed": "3"})


@pytest.mark.parametrize("overlay", ["small", "demo"])
def test_every_stage_leads_to_the_next_until_the_evaluation(overlay: str) -> None:
    files = f"['{CONFIGS}/train_autoencoder.yaml','{CONFIGS}/{overlay}.yaml']"
    arguments = ["run", "training", "--config_file", files, "--dataset_dir", "my data", "--output_dir=out"]
    seen = []
    while command := next_command(arguments):
        python, m, module, *arguments = shlex.split(command)
        assert [python, m, module] == ["python", "-m", "monai.bundle"]
        check_options(arguments)
        options = parse_options(arguments)[1]
        seen.append(Path(options["config_file"].split("'")[1]).stem)
        assert all(Path(file).is_file() for file in options["config_file"].split("'")[1::2])
        assert options["dataset_dir"] == "my data" and options["output_dir"] == "out"
        assert options.get("models_dir") == (None if seen[-1].startswith("train_") else "out/models")
    assert seen == [name for name in NEXT.values() if name != LEFT_OUT.get(overlay)]


@pytest.mark.parametrize(
    "arguments", [[*INFERENCE, "--image", "crop.nii.gz"], ["run", "--config_file", "mine.yaml"], []]
)
def test_nothing_follows_on_what_ends_there(arguments: list[str]) -> None:
    assert next_command(arguments) is None


def test_inference_with_the_weights_in_the_bundle_is_evaluated_with_them() -> None:
    assert "--models_dir" not in str(next_command([*INFERENCE, "--output_dir", "out"]))


def test_the_evaluation_is_of_the_same_section_and_of_none_without_follow_ups() -> None:
    assert "--section validation" in str(next_command([*INFERENCE, "--section", "validation"]))
    for section in SINGLE:
        assert next_command([*INFERENCE, "--section", section]) is None
    assert set(WITHOUT_FOLLOW_UPS) == set(SINGLE)
