"""Options: former and unknown ones are refused before any work, and values that cannot be meant."""

from __future__ import annotations

import importlib
import importlib.machinery
import json
import re
import shlex
import shutil
import sys
import time
import types
from pathlib import Path

import pytest
import yaml

import scripts
from scripts.options.check import check_options
from scripts.options.configuration import OptionError
from scripts.options.values import IN_PLACE_OF_NULL

ROOT = Path(__file__).resolve().parents[3]
CONFIGS = ROOT / "bundle" / "configs"
INFERENCE = ["run", "--config_file", str(CONFIGS / "inference.yaml")]
TRAINING = CONFIGS / "train_conditional.yaml"


def refusal(*arguments: str) -> str:
    """The message with which a command is refused: one line."""
    with pytest.raises(OptionError) as error:
        check_options([*INFERENCE, *arguments])
    assert "\n" not in str(error.value)
    return str(error.value)


def overlay(folder: Path, text: str) -> list[str]:
    """The command of the conditional stage with an overlay of one's own."""
    (folder / "mine.yaml").write_text(text)
    return ["run", "training", "--config_file", f"['{TRAINING}','{folder / 'mine.yaml'}']"]


@pytest.mark.parametrize("option", ["--restart", "--restart true", "--restart=True", "--restart false"])
def test_restart_is_a_switch(option: str) -> None:
    command = ["run", "training", "--config_file", str(TRAINING)]
    check_options([*command, *option.split()])
    with pytest.raises(OptionError, match="--restart: found 'yes', expected True or False"):
        check_options([*command, "--restart", "yes"])


# --- names


@pytest.mark.parametrize("option", ["--guidance 3", "--guidance=3", "--inferer#guidance 3", "--inferer::guidance=3"])
def test_a_former_name_is_refused_with_the_new_one(option: str) -> None:
    assert refusal(*option.split()).startswith("guidance is called guidance_scale now")


def test_a_former_name_among_arguments_is_refused() -> None:
    assert "guidance_scale" in refusal("--sampling", "{'num_runs': 3, 'guidance': 2}")


@pytest.mark.parametrize("content", [{"null_share": 0.1}, {"network": {"_target_": "x", "null_share": 0.1}}])
def test_a_former_name_in_a_file_is_refused(tmp_path: Path, content: dict) -> None:
    with pytest.raises(OptionError, match="null_share is called condition_dropout now"):
        check_options(overlay(tmp_path, yaml.safe_dump(content)))


@pytest.mark.parametrize(
    ("option", "meant"),
    [
        ("--datset_dir=x", "Did you mean --dataset_dir?"),
        ("--num_run 3", "Did you mean --num_runs?"),
        ("-num_run 3", "Did you mean --num_runs?"),  # Fire takes one dash too
        ("--nosolve", "Did you mean --solver?"),  # what Fire takes for `solve` being False
        ("--inferrer#num_runs 3", "Did you mean inferer?"),
        ("--sampling::num_run 3", "sampling has no num_run. Did you mean num_runs?"),
        ("--zzz", "--help lists the options."),
    ],
)
def test_an_option_that_no_configuration_has_is_refused_with_the_nearest(option: str, meant: str) -> None:
    assert meant in refusal(*option.split())


@pytest.mark.parametrize("command", ["run", "run_workflow", "ckpt_export network_def", "verify_net_in_out network_def"])
def test_every_command_refuses_it(command: str) -> None:
    with pytest.raises(OptionError, match=r"^--num_run: the configuration has no num_run. Did you mean --num_runs\?$"):
        check_options([*command.split(), *INFERENCE[1:], "--num_run", "2"])


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("max_epoch: 3", "Did you mean max_epochs?"),
        ("train::max_epoch: 3", "train has no max_epoch."),
        ("validate::dataloader::batchsize: 3\nvalidate::batchsize: 3", "validate has no batchsize."),
        ("patiense: 3 # stops early", "Did you mean patience?"),
    ],
)
def test_a_name_that_no_configuration_has_is_refused_in_an_overlay_too(tmp_path: Path, line: str, meant: str) -> None:
    with pytest.raises(OptionError) as error:
        check_options(overlay(tmp_path, line))
    assert meant in str(error.value) and str(tmp_path / "mine.yaml") in str(error.value)


def test_an_overlay_beside_the_stage_does_not_vouch_for_itself(tmp_path: Path) -> None:
    shutil.copy(TRAINING, tmp_path)
    files = [str(tmp_path / TRAINING.name), overlay(tmp_path, "max_epoch: 3")[-1].split("'")[3]]
    with pytest.raises(OptionError, match=r"mine.yaml, line 1: max_epoch: .*Did you mean max_epochs\?"):
        check_options(["run", "--config_file", str(files)])


def test_a_name_that_is_nearly_one_of_a_mapping_is_refused(tmp_path: Path) -> None:
    command = [*overlay(tmp_path, "schedules: {conditional: {max_epochs: 2}}\nmax_epochs: $@schedules['conditional']")]
    with pytest.raises(OptionError, match="schedules::conditional has no max_epoch. Did you mean max_epochs"):
        check_options([*command, "--schedules::conditional::max_epoch", "3"])


@pytest.mark.parametrize(
    "option",
    [
        "--num_runs 3",
        "--num-runs=3",  # as Fire takes it
        "--inferer#num_runs 3",
        "--inferer::num_runs=3",
        "--inferer::batch_size 3",  # an argument of the class, which the configuration leaves at its default
        "--conditioner_arguments::llm embedded",
        "--meta_file metadata.json",
        "--logging_file False",
        "--workflow_type infer",
        "--tracking mlflow --experiment_name mine",
    ],
)
def test_what_the_configuration_or_monai_has_is_taken(option: str) -> None:
    check_options([*INFERENCE, *option.split()])


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--conditioner_arguments", "{'llm': 'mine'}"], "would drop components, components_by.*arguments::llm"),
        (["--unet_shape", "{'prediction_type': 'epsilon'}"], "would drop channels.*--unet_shape::prediction_type"),
        (["--schedules", "{}"], "would drop autoencoder, classifier"),
    ],
)
def test_an_option_that_would_drop_others_is_refused(option: list[str], message: str) -> None:
    """A mapping replaces the whole of another, with small.yaml's or paper.yaml's arguments in it."""
    command = ["run", "training", "--config_file", f"['{TRAINING}','{CONFIGS / 'small.yaml'}']"]
    with pytest.raises(OptionError, match=message):
        check_options([*command, *option])
    check_options([*command, "--conditioner_arguments::llm", "mine"])
    check_options([*command, "--conditioner_arguments", "{'llm': 'x', 'components': 3, 'components_by': 'record'}"])


def test_arguments_of_other_commands_are_taken() -> None:
    options = "--filepath out/model.ts --ckpt_file models/model.pt --bundle_root bundle"
    check_options(["ckpt_export", "network_def", *options.split(), *INFERENCE[1:]])


def test_what_overlays_bring_is_known(tmp_path: Path) -> None:
    """What something refers to, what is computed, and what is another stage's."""
    text = "brand_new: 1\nlearning_rate: $@brand_new / 2\nclassifier_shape: {}\n"
    check_options([*overlay(tmp_path, text), "--brand_new", "2"])


def test_a_file_of_arguments_is_read(tmp_path: Path) -> None:
    path = tmp_path / "arguments.json"
    path.write_text(json.dumps({"config_file": INFERENCE[2], "guidance": 3}))
    with pytest.raises(OptionError, match="guidance_scale"):
        check_options(["run", "--args_file", str(path)])
    path.write_text(json.dumps({"config_file": INFERENCE[2], "num_runs": "3"}))
    with pytest.raises(OptionError, match="arguments.json: num_runs: found '3'"):
        check_options(["run", "--args_file", str(path)])


# --- values


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        (["--seed", "'5'"], "--seed: found '5', expected a number such as 23; it is text here."),
        (["--seed", "-3"], "--seed: found -3, expected 0 or more."),
        (["--inferer::seed=-1"], "--inferer::seed: found -1, expected 0 or more."),
        (["--num_runs", "2.5"], "--num_runs: found 2.5, expected a whole number such as 20."),
        (["--guidance_scale", "nan"], "--guidance_scale: found 'nan', expected a finite number; it is text here."),
        (["--guidance_scale", "1e999"], "--guidance_scale: found inf, expected a finite number."),
        (
            ["--image", "null"],
            "--image: found 'null', expected null in a file, or the option left out; it is text here.",
        ),
        (["--num_runs", "None"], "--num_runs: MONAI passes over None on the command line"),
        (["--num_runs"], "--num_runs: found True, expected a whole number such as 20."),
        (["--output_dir", "2024"], "--output_dir: found 2024, expected text such as './runs/default'."),
        (["--output_dir="], "--output_dir: found '', expected text that is not empty"),
        (["--output_dir=~/runs"], "--output_dir: found '~/runs', expected the whole path"),
        (["--output_dir", "runs#2"], "--output_dir: found 'runs#2', expected text without #"),
        (["--conditioner_arguments", "{standardise: false}"], "found 'false', expected False; it is text here."),
        (["--conditioner_arguments", "embedded"], "found 'embedded', expected a map such as {}."),
        (["--inferer::num_runs", "'3'"], "--inferer::num_runs: found '3', expected a number; it is text here."),
    ],
)
def test_a_value_that_the_command_line_bends_is_refused_by_name(option: list[str], expected: str) -> None:
    assert expected in refusal(*option)


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("--guidance_scale 1e-4x", "found '1e-4x', expected a number such as 3.0."),
        ("--guidance_scale 3,5", "found (3, 5), expected a number such as 3.0."),
        ("--guidance_scale True", "found True, expected a number such as 3.0."),
        ("--image_size 64px", "found '64px', expected a whole number such as 64."),
        ("--image_size 64.5", "found 64.5, expected a whole number such as 64."),
        ("--image 5", "found 5, expected text such as 'crop.nii.gz'."),
    ],
)
def test_an_option_that_is_null_by_default_has_a_kind_too(option: str, expected: str) -> None:
    assert refusal(*option.split()).endswith(expected)


def test_every_option_that_is_null_by_default_has_an_example() -> None:
    nulls = set()
    for path in CONFIGS.glob("*.yaml"):
        nulls |= {name for name, value in yaml.safe_load(path.read_text()).items() if value is None}
    assert nulls - {"prepare"} == IN_PLACE_OF_NULL.keys()


@pytest.mark.parametrize(
    "option", ["--image None", "--guidance_scale 1", "--seed 1_000", "--solver dpmpp", "--seed 0", "--texture false"]
)
def test_a_value_that_can_be_meant_is_taken(option: str) -> None:
    check_options([*INFERENCE, *option.split()])


def test_a_part_of_a_list_has_a_name_too() -> None:
    """Its place; what it has not is still found, further down."""
    check_options(["run", "training", "--config_file", str(TRAINING), "--train::handlers::0::max_norm", "2.0"])
    with pytest.raises(OptionError, match="train::handlers::0 has no 7"):
        check_options(["run", "training", "--config_file", str(TRAINING), "--train::handlers::0::7::max_norm", "2.0"])


@pytest.mark.parametrize("word", ["0", "no", "null"])
def test_a_truth_value_is_true_or_false(tmp_path: Path, word: str) -> None:
    command = overlay(tmp_path, "channels_last: true")
    for fine in ("False", "True", "true", "false", "FALSE"):
        check_options([*command, "--channels_last", fine])
    with pytest.raises(OptionError, match=f"--channels_last: found '?{word}'?, expected True or False"):
        check_options([*command, "--channels_last", word])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("learning_rate: 1e-4", "line 1: learning_rate: found '1e-4', expected a number such as 2e-05"),
        ("seed: 3\nlearning_rate: 1E-4", "line 2: learning_rate: found '1E-4'"),
        ("optimizer::lr: 1e-4", "line 1: optimizer::lr: found '1e-4', expected a number; it is text here"),
        ("conditioner_arguments: {noise: 1e-3}", "found '1e-3', expected a number; it is text here"),
        ("seed: 023", "found 023, which YAML reads as another number"),
        ("max_epochs: 1:30", "found 1:30, which YAML reads as another number"),
        ("max_epochs: '3'", "found '3', expected a number such as 60"),
        ("max_epochs: null", "found None, expected a whole number such as 60"),
        ("precision: off", "found False, expected text such as 'float32'"),
        ("rotations: 45", "found 45, expected a list such as [0, 45, 90, 135, 180]"),
        ("rotations: ['45']", "found '45', expected a number such as 0"),
        ("keep_input_weights: 'no'", "found 'no', expected True or False"),
        ("compile_mode: None", "found 'None', expected null in a file"),
        ("learning_rate: .nan", "found nan, expected a finite number"),
    ],
)
def test_a_value_that_yaml_bends_is_refused_by_file_line_and_name(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(OptionError) as error:
        check_options(overlay(tmp_path, text))
    assert f"{tmp_path / 'mine.yaml'}, line " in str(error.value) and expected in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "learning_rate: 1.0e-4",
        "learning_rate: 1",
        "max_epochs: $2 * 30",
        "compile_mode: reduce-overhead",
        "pretrained: null",
        "conditioner_arguments: {llm: '@seed', lora: null}",
        "optimizer: {_target_: torch.optim.SGD, params: $@network.parameters(), lr: 0.1, fused: false}",
    ],
)
def test_a_value_that_can_be_meant_is_taken_from_an_overlay(tmp_path: Path, text: str) -> None:
    check_options(overlay(tmp_path, text))


def test_a_configuration_changed_in_place_is_checked_too(tmp_path: Path) -> None:
    path = tmp_path / "train_conditional.yaml"
    path.write_text(TRAINING.read_text().replace("learning_rate: 2.0e-5", "learning_rate: 2e-5"))
    with pytest.raises(OptionError, match=r"learning_rate: found '2e-5', .*: 2.0e-5"):
        check_options(["run", "--config_file", str(path)])


# --- all that is there


def documented() -> list[str]:
    """Every command of ``monai.bundle`` in the documents."""
    documents = [ROOT / "README.md", *sorted((ROOT / "bundle" / "docs").glob("*.md"))]
    lines = [line.strip() for path in documents for line in path.read_text().splitlines()]
    return [line for line in lines if " monai.bundle " in line and "--config_file" in line and "..." not in line]


@pytest.mark.parametrize("line", documented())
def test_no_documented_command_is_refused(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    check_options(shlex.split(line.partition(" monai.bundle ")[2], comments=True))


STAGES = [path for path in sorted(CONFIGS.glob("*.yaml")) if "\nimports:" in path.read_text()]
OVERLAYS = [path for path in sorted(CONFIGS.glob("*.yaml")) if path not in STAGES]


def told(path: Path) -> tuple[str | None, list[Path]]:
    """The stage that a compared method's overlay is for, as its head says, and the overlays that come before it."""
    head = " ".join(line.removeprefix("# ") for line in path.read_text().splitlines() if line.startswith("# "))
    stage = re.search(r"last, with (\w+)\.yaml", head)
    if (after := re.search(r"(?:Compose it|and) after (compare_\w+)\.yaml", head)) is None:
        return stage and stage[1], []
    its_stage, before = told(CONFIGS / f"{after[1]}.yaml")
    return (stage[1] if stage else its_stage), [*before, CONFIGS / f"{after[1]}.yaml"]


@pytest.mark.parametrize("stage", STAGES, ids=lambda path: path.stem)
def test_no_configuration_of_ours_is_refused(stage: Path) -> None:
    """Alone and with every overlay that is not for other stages alone."""
    check_options(["run", "--config_file", str(stage)])
    for path in OVERLAYS:
        if path.stem == "no_validation" and not stage.stem.startswith("train_"):
            continue
        own, before = told(path)
        one_stage = path.stem in ("direct_classifier", "score") or path.stem.startswith("compare_")
        if own is None or not one_stage or own == stage.stem:
            files = dict.fromkeys([stage, CONFIGS / "small.yaml", *before, path])
            check_options(["run", "--config_file", str([str(file) for file in files])])


def test_the_answer_comes_at_once() -> None:
    files = [str(TRAINING), *(str(path) for path in OVERLAYS if path.stem in ("small", "demo", "paper"))]
    begin = time.perf_counter()
    with pytest.raises(OptionError):
        check_options(["run", "training", "--config_file", str(files), "--learning_rte", "1"])
    assert time.perf_counter() - begin < 2


def test_a_wrong_option_ends_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """When MONAI imports the bundle's code, before any other work: one line, status 2."""
    command(monkeypatch, *INFERENCE, "--num_run", "2")
    with pytest.raises(SystemExit) as end:
        importlib.reload(scripts)
    assert end.value.code == 2
    message = "error: --num_run: the configuration has no num_run. Did you mean --num_runs?\n"
    assert capsys.readouterr() == ("", message)


@pytest.mark.parametrize("flag", ["--help", "-h", "--help=True"])
def test_help_is_printed_and_ends_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    command(monkeypatch, *INFERENCE, "--num_run", "2", flag)
    with pytest.raises(SystemExit) as end:
        importlib.reload(scripts)
    printed = capsys.readouterr()
    assert not end.value.code and "--num_runs" in printed.out and printed.err == ""


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """Lets this process pass for ``python -m monai.bundle`` with these arguments."""
    main = types.ModuleType("__main__")
    main.__spec__ = importlib.machinery.ModuleSpec("monai.bundle.__main__", None)
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(sys, "argv", ["monai.bundle", *arguments])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
