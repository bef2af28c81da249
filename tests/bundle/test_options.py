"""Options: former and unknown ones are refused before any work, and the next command follows on a finished one."""

from __future__ import annotations

import doctest
import json
import shlex
from pathlib import Path

import pytest
import yaml

import scripts.options
from scripts.options import NEXT, OptionError, check_options, next_command, parse_options

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "bundle" / "configs"
INFERENCE = ["run", "--config_file", str(CONFIGS / "inference.yaml")]


def test_the_examples_hold() -> None:
    assert doctest.testmod(scripts.options).failed == 0


@pytest.mark.parametrize("option", ["--guidance 3", "--guidance=3", "--inferer#guidance 3", "--inferer::guidance=3"])
def test_a_former_name_is_refused_with_the_new_one(option: str) -> None:
    with pytest.raises(OptionError, match=r"^guidance is called guidance_scale now"):
        check_options([*INFERENCE, *option.split()])


def test_a_former_name_among_arguments_is_refused() -> None:
    with pytest.raises(OptionError, match="guidance_scale"):
        check_options([*INFERENCE, "--sampling", "{'num_runs': 3, 'guidance': 2}"])


@pytest.mark.parametrize("content", [{"null_share": 0.1}, {"network": {"_target_": "x", "null_share": 0.1}}])
def test_a_former_name_in_a_file_is_refused(tmp_path: Path, content: dict) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    files = f"['{CONFIGS / 'train_conditional.yaml'}','{tmp_path / 'mine.yaml'}']"
    with pytest.raises(OptionError, match="null_share is called condition_dropout now"):
        check_options(["run", "training", "--config_file", files])


@pytest.mark.parametrize(
    ("option", "meant"),
    [
        ("--datset_dir=x", "Did you mean --dataset_dir?"),
        ("--num_run 3", "Did you mean --num_runs?"),
        ("--inferrer#num_runs 3", "Did you mean --inferer?"),
        ("--zzz", "Options are the names at the top of"),
    ],
)
def test_an_option_that_no_configuration_has_is_refused_with_the_nearest(option: str, meant: str) -> None:
    with pytest.raises(OptionError) as error:
        check_options([*INFERENCE, *option.split()])
    assert meant in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "option",
    [
        "--num_runs 3",
        "--num-runs=3",  # as Fire takes it
        "--inferer#num_runs 3",
        "--inferer::num_runs=3",
        "--meta_file metadata.json",
        "--logging_file False",
        "--workflow_type infer",
        "--tracking mlflow --experiment_name mine",
    ],
)
def test_what_the_configuration_or_monai_has_is_taken(option: str) -> None:
    check_options([*INFERENCE, *option.split()])


def test_arguments_of_other_commands_are_taken() -> None:
    options = "--filepath out/model.ts --ckpt_file models/model.pt --bundle_root bundle"
    check_options(["ckpt_export", "network_def", *options.split(), *INFERENCE[1:]])


def test_what_overlays_bring_is_known(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("brand_new: 1\n")
    check_options(["run", "--config_file", f"['{INFERENCE[2]}','{tmp_path / 'mine.yaml'}']", "--brand_new", "2"])


def test_a_file_of_arguments_is_read(tmp_path: Path) -> None:
    path = tmp_path / "arguments.json"
    path.write_text(json.dumps({"config_file": INFERENCE[2], "guidance": 3}))
    with pytest.raises(OptionError, match="guidance_scale"):
        check_options(["run", "--args_file", str(path)])


def test_every_stage_leads_to_the_next_until_the_evaluation() -> None:
    files = f"['{CONFIGS}/train_autoencoder.yaml','{CONFIGS}/small.yaml']"
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
    assert seen == list(NEXT.values())


@pytest.mark.parametrize(
    "arguments", [[*INFERENCE, "--image", "crop.nii.gz"], ["run", "--config_file", "mine.yaml"], []]
)
def test_nothing_follows_on_what_ends_there(arguments: list[str]) -> None:
    assert next_command(arguments) is None


def test_inference_with_the_weights_in_the_bundle_is_evaluated_with_them() -> None:
    assert "--models_dir" not in str(next_command([*INFERENCE, "--output_dir", "out"]))


def documented() -> list[str]:
    """Every command of ``monai.bundle`` in the documents."""
    documents = [ROOT / "README.md", *sorted((ROOT / "bundle" / "docs").glob("*.md"))]
    lines = [line.strip() for path in documents for line in path.read_text().splitlines()]
    return [line for line in lines if " monai.bundle " in line and "--config_file" in line and "..." not in line]


@pytest.mark.parametrize("line", documented())
def test_no_documented_command_is_refused(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    check_options(shlex.split(line.partition(" monai.bundle ")[2], comments=True))
