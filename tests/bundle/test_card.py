"""README and the bundle's documents: every command in them runs, and what they say of the configurations is so."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import yaml

import data_prep.cli
import deploy.cli
from data_prep.version import VERSION
from scripts.comparators.tables import write_table
from scripts.evaluation.evaluator import DEFINITIONS
from scripts.networks.autoencoder import StableDiffusionAutoencoder
from scripts.networks.unet import StableDiffusionUNet
from scripts.options.check import check_options
from scripts.options.configuration import OptionError
from scripts.weights.key_maps import COMPVIS, key_maps_of
from tests.deploy.scans import write_chest

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "bundle"
DOCS = BUNDLE / "docs"
CARD = (DOCS / "README.md").read_text()

MADE = {
    "README.md": [
        "cases.png",
        "dataset/datalist.json",
        "out/nodule/panel.png",
        "out/nodule/result.json",
        "runs/mine/models/autoencoder.safetensors",
    ],
    "bundle/docs/README.md": [
        "out/predictions/CROP/samples.nii.gz",
        "bundle/models/model.pt",
        "out/model.ts",
        "out/diffusers/unet/config.json",
        *(f"runs/mine/models/{name}.safetensors" for name in ("autoencoder", "unet_conditional", "classifier")),
        "runs/mine/evaluation/report.html",
    ],
    "bundle/docs/training.md": [
        "runs/mine/autoencoder/last.pt",
        "runs/mine/conditional/last.pt",
        *(f"runs/small/models/{name}.safetensors" for name in ("autoencoder", "unet_conditional", "classifier")),
        *(f"runs/sd15/models/{name}.safetensors" for name in ("autoencoder", "unet_unconditional")),
        "runs/paper/models/autoencoder.safetensors",
    ],
    "bundle/docs/evaluation.md": [
        *(f"runs/mine/evaluation/{name}" for name in ("report.html", "steering.json")),
        *(f"runs/site/evaluation/{name}" for name in ("metrics.json", "tripod_ai.md")),
        "runs/mine/evaluation/cases/patient-9_n1.pdf",
        "runs/mine/unguided/patient-9_n1/samples.nii.gz",
        "runs/mine/times/courses/patient-9_n1.json",
        *(f"runs/mine/baselines/{name}.csv" for name in ("record_only", "direct_classifier")),
        *(
            f"runs/mine/models/{name}"
            for name in ("reference.json", "record_only.json", "direct_classifier.safetensors")
        ),
        *(f"runs/mine/predictions/{name}" for name in ("results.csv", "patient-9_n1/result.pdf")),
    ],
}
"""Document to what its commands have to make."""


def commands_of(text: str) -> list[str]:
    """Indented lines; fenced blocks are not commands."""
    return [line.strip() for line in re.sub(r"```.*?```", "", text, flags=re.S).splitlines() if line.startswith("    ")]


@pytest.fixture
def place(
    trained: Path, tiny_dataset: Path, tiny_settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder with all that the commands name, and an overlay that makes what they do small."""
    shutil.copytree(BUNDLE, tmp_path / "bundle", ignore=shutil.ignore_patterns("models", "__pycache__"))
    shutil.copytree(trained / "models", tmp_path / "bundle" / "models")
    for dataset in ("crops", "dataset"):
        (tmp_path / dataset).symlink_to(tiny_dataset)
    shutil.copytree(tiny_dataset, tmp_path / "site")
    alone = json.loads((tiny_dataset / "datalist.json").read_text())
    alone |= {"training": [], "validation": [], "unpaired": []}
    (tmp_path / "site" / "datalist.json").write_text(json.dumps(alone))
    shutil.copy(tiny_dataset / "4_t0.nii.gz", tmp_path / "CROP.nii.gz")
    (tmp_path / "EHR.json").write_text(json.dumps({"age": 66}))
    torch.save(stable_diffusion(tiny_settings), tmp_path / "v1-5-pruned.ckpt")
    tiny = {
        **tiny_settings,
        "max_epochs": 1,
        "loss": {"perceptual_weight": 0.0},
        "bundle_root": str(tmp_path / "bundle"),
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stable_diffusion(tiny_settings: dict[str, Any]) -> dict[str, Any]:
    """What stands for the published file: its names, and random weights of the tiny networks."""
    networks = (
        StableDiffusionAutoencoder(**tiny_settings["autoencoder_shape"]),
        StableDiffusionUNet(context_dim=768, **tiny_settings["unet_shape"]),
    )
    tables = [(network.state_dict(), key_maps_of(network)[COMPVIS]) for network in networks]
    return {"state_dict": {theirs: state[ours] for state, table in tables for ours, theirs in table.items()}}


def prepare(name: str, *options: str) -> None:
    """A command of data_prep; a table that it leaves empty is filled with growing ellipses."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stopped:
        patch.setattr(sys, "argv", ["data_prep", name, *options])
        data_prep.cli.main()
    assert not stopped.value.code
    if name == "template":
        with Path(options[0]).open("a", newline="") as file:
            columns = Path(options[0]).read_text().strip().split(",")
            writer = csv.DictWriter(file, columns)
            for case, time in itertools.product(range(12), (0, 1)):
                row = {
                    "patient_id": f"p{case}",
                    "nodule_id": 1,
                    "study_yr": time,
                    "image": f"crops/{case}_t{time}.nii.gz",
                }
                writer.writerow({**row, "sct_long_dia": 8 + case, "sct_perp_dia": 6 + case, "malignant": case % 2})


def cross_validate(place: Path, image_size: int) -> None:
    """What folds would have written of the dataset's cases: tables of probabilities and of diameters."""
    datalist = json.loads((place / "dataset" / "datalist.json").read_text())
    ids = [case["case_id"] for section in ("training", "validation") for case in datalist[section]]
    made = {"num_runs": 3, "num_steps": 4, "solver": "dpmpp", "image_size": image_size}
    (place / "folds").mkdir()
    for name in ("generated", "baseline", "direct_classifier"):
        write_table(place / "folds" / f"{name}.csv", 0, ids, [index / len(ids) for index in range(len(ids))])
    (place / "folds" / "generated.json").write_text(json.dumps({"sampling": made | {"guidance_scale": 6.0}}))
    for scale in (1, 6):
        lines = [f"{case_id},{run},{7 + run},{6 + run}" for run in range(3) for case_id in ids]
        (place / "folds" / f"sizes_{scale}.csv").write_text("\n".join(["case_id,run,long,perpendicular", *lines]))
        (place / "folds" / f"sizes_{scale}.json").write_text(json.dumps({"sampling": made | {"guidance_scale": scale}}))


def forecast(name: str, scan: str, *options: str) -> None:
    """A command of deploy, of a drawn scan, in two runs of two steps by the small weights of the place."""
    write_chest(Path(scan), tuple(map(float, options[options.index("--point") + 1].split(","))))
    small = ("--models_dir", "bundle/models", "--num_runs", "2", "--num_steps", "2")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stopped:
        patch.setattr(sys, "argv", ["deploy", name, scan, *options, *small])
        deploy.cli.main()
    assert not stopped.value.code


def run(command: str, monai: Callable[..., None]) -> None:
    """A command of a document in this process, with tiny.yaml composed last."""
    own_code = command.startswith("PYTHONPATH=bundle ")
    program, *arguments = shlex.split(command.removeprefix("PYTHONPATH=bundle "), comments=True)
    if program == "make":
        assert f"\n{arguments[0]}:" in (ROOT / "Makefile").read_text(), command
    if program in ("make", "."):
        return
    if program == "echo":
        subprocess.run(command, shell=True, check=True)
        return
    if program == "tensorboard":
        assert list(Path(arguments[1]).rglob("events.out.tfevents.*")), command
        return
    if program == "torchrun":
        arguments = arguments[arguments.index("-m") :]
    else:
        assert program == "python", command
    if arguments[0] == "-c":
        exec(arguments[1], {})
        return
    module, name, *options = arguments[1:]
    if module == "data_prep":
        prepare(name, *options)
        return
    if module == "deploy":
        forecast(name, *options)
        return
    assert (arguments[0], module) == ("-m", "monai.bundle"), command
    assert own_code or name == "run", f"MONAI does not put the bundle's root on the path: {command}"
    if "onnx" in options and not find_spec("onnx"):
        return
    index = options.index("--config_file") + 1
    files = yaml.safe_load(options[index]) if options[index].startswith("[") else [options[index]]
    if program == "torchrun":
        assert files.pop() == "bundle/configs/multi_gpu.yaml"  # processes: test_engines.py
    options[index] = str([*files, "tiny.yaml"])
    monai(name, *options)


def test_the_python_example_runs(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With tiny.yaml composed after its configuration."""
    (example,) = re.findall(r"```python\n(.*?)```", CARD, flags=re.S)
    file = 'f"{BUNDLE}/configs/inference.yaml"'
    assert example.count(file) == example.count("/path/to/bundle") == 1
    example = example.replace("/path/to/bundle", str(place / "bundle")).replace(file, f'[{file}, "tiny.yaml"]')
    monkeypatch.setattr(sys, "path", list(sys.path))
    names: dict[str, Any] = {}
    exec(example, names)
    assert (place / "out" / "predictions" / "CROP" / "samples.nii.gz").is_file()
    assert names["samples"].shape == (1, 4, 32, 32)


@pytest.mark.documents
@pytest.mark.parametrize("document", MADE)
def test_every_command_runs(
    document: str, place: Path, trained: Path, monai: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the document's order and from one folder, so that later commands find what earlier ones have made."""
    uploads: list[dict[str, Any]] = []
    for name in ("create_repo", "upload_folder", "create_tag"):
        monkeypatch.setattr(huggingface_hub.HfApi, name, lambda self, **arguments: uploads.append(arguments))
    if document == "README.md":  # makes its own
        (place / "dataset").unlink()
    if document in ("bundle/docs/training.md", "bundle/docs/evaluation.md"):  # begin where stages are trained
        shutil.copytree(trained / "models", place / "runs" / "mine" / "models")
    if document == "bundle/docs/evaluation.md":
        cross_validate(place, image_size=32)
    commands = commands_of((ROOT / document).read_text())
    assert commands
    for command in commands:
        if command.startswith("torchrun"):  # of stages that were trained with each other
            shutil.copytree(trained / "models", place / "runs" / "mine" / "models", dirs_exist_ok=True)
        run(command, monai)
    assert not [path for path in MADE[document] if not (place / path).is_file()]
    assert not (place / "bundle" / "models" / "model.ts").exists(), "MONAI Deploy would prefer it"
    if document == "bundle/docs/README.md":
        assert [upload["repo_id"] for upload in uploads] == ["OWNER/namd"] * 3
        version = json.loads((BUNDLE / "configs" / "metadata.json").read_text())["version"]
        assert uploads[-1]["tag"] == version
    if document == "bundle/docs/evaluation.md":
        metrics = json.loads((place / "runs" / "mine" / "evaluation" / "metrics.json").read_text())
        explained = set(re.findall(r"`(\w+)`", (ROOT / document).read_text()))
        assert {"no guidance", "record only", "direct classifier"} <= set(metrics["methods"])
        assert not (set(metrics) | set(DEFINITIONS)) - explained


def test_schedules_are_the_configurations() -> None:
    rows = re.findall(r"\| (\w+) \| (\d+) \| (\d+) \| (\S+) \|", CARD)
    assert [stage for stage, *_ in rows] == ["autoencoder", "unconditional", "conditional", "classifier"]
    for stage, *values in rows:
        config = yaml.safe_load((BUNDLE / "configs" / f"train_{stage}.yaml").read_text())
        expected = [config["max_epochs"], config["batch_size"], config["learning_rate"]]
        assert [float(value) for value in values] == expected, stage


def test_the_options_of_the_choices_are_options() -> None:
    """Each is taken by the stage that has it, alone and with small.yaml."""
    (table,) = re.findall(r"\| what \| ours \|.*?\n\n", CARD, flags=re.S)
    options = [shlex.split(text) for text in re.findall(r"`(--[^`]+)`", table)]
    assert len(options) == 16
    configurations = [["train_autoencoder"], ["train_unconditional"], ["train_conditional"], ["train_classifier"]]
    for option in options:
        taken = 0
        for files in [*configurations, *([*names, "small"] for names in configurations)]:
            paths = [str(BUNDLE / "configs" / f"{name}.yaml") for name in files]
            with contextlib.suppress(OptionError):
                check_options(["run", "training", "--config_file", str(paths), *option])
                taken += 1
        assert taken >= 2, option


def test_every_overlay_is_explained() -> None:
    table = set(re.findall(r"^\| `(\w+\.yaml)` \|", (DOCS / "training.md").read_text(), flags=re.M))
    overlays = {path.name for path in (BUNDLE / "configs").glob("*.yaml") if path.read_text().startswith("# Overlay")}
    assert overlays and table == overlays


def test_every_version_has_a_line() -> None:
    metadata = json.loads((BUNDLE / "configs" / "metadata.json").read_text())
    assert next(iter(metadata["changelog"])) == metadata["version"]
    assert f"version='{metadata['version']}'" in CARD
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == metadata["version"] == VERSION
    assert "version" in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dynamic"], "not another one"
