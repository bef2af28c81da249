"""Options that nothing of a run reads are refused where they were typed; overlays' own, and MONAI's, are not."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import yaml

from scripts.options.check import check_options
from scripts.options.configuration import OptionError
from scripts.options.unread import names_read, started

ROOT = Path(__file__).resolve().parents[3]
CONFIGS = ROOT / "bundle" / "configs"
TABLE1 = yaml.safe_load((ROOT / "workflow" / "table1.yaml").read_text())


def run(names: str, *options: str) -> list[str]:
    """The command of a composed configuration."""
    files = [str(CONFIGS / f"{name}.yaml") for name in names.split()]
    entry = ["training"] if names.startswith("train") else []
    return ["run", *entry, "--config_file", str(files), *options]


@pytest.mark.parametrize(
    ("names", "option", "value"),
    [
        ("train_conditional small", "unet_shape::prediction_type", "epsilon"),
        ("train_autoencoder paper", "weight_decay", "0.1"),
        ("train_unconditional small", "betas", "[0.5,0.9]"),
        ("train_conditional small", "betas", "[0.5,0.9]"),
        ("train_classifier small", "betas", "[0.5,0.9]"),
        ("train_conditional small compare_sd15", "conditioner_arguments::llm", "embedded"),
        ("train_conditional small compare_crops compare_mcwgan", "ema_decay", "0.99"),
        ("train_conditional small compare_crops compare_mcwgan", "warmup_steps", "100"),
        ("train_conditional small compare_crops compare_mcwgan", "pretrained", "models"),
        ("train_conditional small compare_sd15", "weights_dtype", "float16"),
        ("train_conditional small compare_flux", "weights_dtype", "float16"),
        ("train_conditional small compare_ddl_cxr", "weights_dtype", "float16"),
        ("inference small compare_generate", "texture", "True"),
    ],
)
def test_an_option_that_nothing_reads_is_refused(names: str, option: str, value: str) -> None:
    with pytest.raises(OptionError) as error:
        check_options(run(names, f"--{option}", value))
    told = f"--{option}: nothing in this stage reads {option.split('::')[0]}, so that it would change nothing. "
    assert str(error.value) == told + "Leave it out, or give it to a stage that reads it."


@pytest.mark.parametrize(
    ("names", "options"),
    [
        ("train_unconditional small", "--unet_shape::prediction_type epsilon"),
        ("train_autoencoder small", "--betas [0.5,0.9]"),
        ("train_classifier paper", "--weight_decay 0.1"),
        ("train_conditional small", "--conditioner_arguments::llm embedded --guidance_scale 3 --weights_dtype float32"),
        ("train_conditional small", "--bundle_root bundle --schedules::conditional::max_epochs 3"),
        ("train_classifier small direct_classifier", "--stage classifier --seed 3"),
        ("train_conditional small", "--betas [0.5,0.9] --tracking mlflow"),  # which adds what may refer to it
        ("inference", "--guidance_scale 3 --for_size False"),
        ("inference", "--for_size True"),
    ],
)
def test_an_option_that_something_reads_is_taken(names: str, options: str) -> None:
    check_options(run(names, *options.split()))


def test_a_reference_among_the_options_reads_too() -> None:
    check_options(run("train_classifier small", "--betas", "[0.5,0.9]", "--optimizer::betas", "@betas"))


def test_one_of_two_options_is_refused_where_it_takes_the_others_place() -> None:
    with pytest.raises(OptionError, match=r"^--guidance_scale: nothing reads it with --for_size true. Give one"):
        check_options(run("inference", "--for_size", "True", "--guidance_scale", "3"))


def test_what_is_run_says_what_is_read() -> None:
    check_options(["run", "pack", *run("inference", "--models_dir", "models")[1:]])
    for command in (["run", "pack"], ["run", "--run_id", "pack"]):
        with pytest.raises(OptionError, match=r"^--num_runs: nothing in this stage reads num_runs"):
            check_options([*command, *run("inference", "--num_runs", "3")[1:]])
    check_options(["ckpt_export", "network_def", *run("inference", "--num_runs", "3")[1:]])
    check_options(["run", "nothing", *run("inference", "--num_runs", "3")[1:]])  # which MONAI refuses itself


def test_options_of_a_file_may_be_for_other_stages(tmp_path: Path) -> None:
    path = tmp_path / "arguments.json"
    path.write_text(json.dumps({"config_file": yaml.safe_load(run("train_classifier small")[3]), "betas": [0.5, 0.9]}))
    check_options(["run", "training", "--args_file", str(path)])


@pytest.mark.parametrize("size", TABLE1["sizes"])
def test_no_stage_of_table_1_is_given_an_option_that_it_does_not_read(size: str) -> None:
    shared = TABLE1["sizes"][size]
    for name, method in TABLE1["methods"].items():
        for stage, configs in method["stages"].items():
            if isinstance(configs, str):
                continue  # trained by another method
            own = shared.get("method_options", {}).get(name, {}).get(stage, "")
            files = " ".join([configs[0], *shared["overlays"], *configs[1:]])
            places = "--dataset_dir data --output_dir runs --models_dir runs/models --seed 23"
            check_options(run(files, *shlex.split(f"{places} {shared['options']} {own}")))


@pytest.mark.parametrize("size", TABLE1["sizes"])
def test_nor_is_what_generates_and_judges(size: str) -> None:
    overlays = " ".join(TABLE1["sizes"][size]["overlays"])
    places = ["--dataset_dir", "data", "--section", "test", "--output_dir", "runs", "--models_dir", "runs/models"]
    for names in (f"inference {overlays}", f"inference {overlays} compare_generate"):
        check_options(run(names, *places, "--num_runs", "2"))
    judged = [*places, "--lpips_network", "vgg"]
    check_options(run(f"evaluate {overlays} score", *judged, "--scores_path", "scores.csv"))
    check_options(run(f"evaluate {overlays}", *judged, "--tables", "{'record alone':'a.csv'}", "--evaluation_dir", "x"))
    options = shlex.split(f"--seed 42 {TABLE1['sizes'][size]['options']}")
    check_options(run(f"train_classifier {overlays} direct_classifier", *places[:2], *options))


# --- the walk


def test_references_are_followed_however_they_are_written() -> None:
    configuration = {
        "run": ["%steps", "$len(@a) + @b::c"],
        "steps": {"inner": {"_target_": "x", "y": "@::::e", "z": "@##f"}},
        **{"a": "@d", "b": {"c": 1, "g": "$@h[0]"}, "d": 1, "e": 1, "f": 1, "h": [1], "i": "@j", "j": 1, "k": 1},
    }
    assert names_read(configuration, ["run", "initialize"], ["@k"]) == {"run", "steps", *"abdefhk"}
    assert names_read(configuration, ["other"], []) is None
    assert names_read({"run": "%other.yaml::run", "a": 1}, ["run"], []) is None, "its references are not known"
    assert names_read({"run": "$'5 %d' % @a", "a": 1}, ["run"], []) == {"run", "a"}


def test_a_run_starts_where_monai_does() -> None:
    assert started(["run", "--config_file", "x"]) == ["run", "initialize", "finalize", "imports"]
    assert started(["run", "--run_id=a::1", "b", "--final_id", "c"]) == ["a", "b", "c", "imports"]
    assert started(["run_workflow", "--config_file", "x"]) is None
