"""The graph of Table 1 as Snakemake plans it: what is made again after which change."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.workflow.plans import PLAN

ROOT = Path(__file__).parents[2]
RULES = dict(
    re.findall(r"^rule (\w+):(.*?)(?=^rule |\Z)", (ROOT / "workflow" / "Snakefile").read_text(), flags=re.M | re.S)
)
"""Text of each rule."""

STUB = """#!/bin/sh
# writes what the bundle would publish, in a line
for word; do
  case "$before" in
    --models_dir) mkdir -p "$word"; for name in classifier perceptual generator; do
      [ -e "$word/$name.safetensors" ] || echo > "$word/$name.safetensors"; done;;
    --scores_path) echo > "$word"; echo > "${word%.csv}.json";;
  esac
  before=$word
done
"""


@pytest.mark.parametrize("rule", [name for name, text in RULES.items() if "CALL + " in text])
def test_what_calls_the_bundle_has_a_digest_that_snakemake_compares(rule: str) -> None:
    """It compares no param of a function that takes input, output, threads or resources."""
    assert re.search(r"^        code=(lambda wildcards: )?(made_of\(.*\)|JUDGED),$", RULES[rule], flags=re.M)


def test_rules_read_no_setting_that_snakemake_does_not_compare() -> None:
    """It compares a command before it is filled in."""
    assert RULES and not [name for name, text in RULES.items() if re.search(r"\{(config|SIZE)\[\w", text)]


@pytest.mark.parametrize("rule", ["stage", "predictions"])
def test_the_memory_of_networks_is_of_the_size(rule: str) -> None:
    sizes = PLAN["sizes"]
    assert 'mem_mb=SIZE["mem_mb"]' in RULES[rule] and sizes["full"]["mem_mb"] > sizes["small"]["mem_mb"]


def test_options_of_a_stage_are_those_that_it_knows() -> None:
    """A method's other stages may know the same option for something else, as Flux's autoencoder knows pretrained."""
    found = [
        (method, stage, option.split()[0].removeprefix("--"))
        for size in PLAN["sizes"].values()
        for method, stages in size.get("method_options", {}).items()
        for stage, option in stages.items()
    ]
    assert found == [("imageflownet", "generator", "threshold"), ("flux", "generator", "pretrained")]
    for method, stage, name in found:
        overlay = PLAN["methods"][method]["stages"][stage][-1]
        assert name in yaml.safe_load((ROOT / "bundle" / "configs" / f"{overlay}.yaml").read_text())


@pytest.mark.processes
def test_flux_alone_starts_from_published_weights(place: Path) -> None:
    goal = ["-n", "-p", "run/flux/23/models/generator.safetensors"]
    missing = called(place, "full", *goal, status=1)
    assert "MissingInputException" in missing and "weights/flux1-schnell.safetensors" in missing, "before the first job"
    (place / "weights").mkdir()
    (place / "weights" / "flux1-schnell.safetensors").touch()
    shown = called(place, "full", *goal)
    stages = [line for line in shown.splitlines() if " --models_dir " in line]
    assert ["--pretrained weights/flux1-schnell.safetensors" in line for line in stages] == [False, True]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The graph, all that its jobs would run, and a dataset, with a stub in the place of Python."""
    for folder in ("workflow", "bundle/scripts", "bundle/configs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "dataset" / "crops").mkdir(parents=True)
    (tmp_path / "dataset" / "datalist.json").write_text("{}")
    (tmp_path / "dataset" / "crops" / "a.nii.gz").write_bytes(b"a")
    (tmp_path / "stub").write_text(STUB)
    (tmp_path / "stub").chmod(0o755)
    return tmp_path


def called(place: Path, size: str, *arguments: str, status: int = 0, kept: str = "") -> str:
    """What Snakemake prints, when it ends with a status; with a folder that an earlier run left."""
    command = [str(ROOT / ".venv-workflow" / "bin" / "snakemake"), "-s", "workflow/Snakefile"]
    command += ["--configfile", "workflow/table1.yaml", "--config", f"size={size}", "dataset=dataset", "run=run"]
    command += [f"kept={kept}", "python=./stub", "--cores", "1", *arguments]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=300)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def snakemake(place: Path, *arguments: str) -> set[str]:
    """Rules of the jobs that Snakemake runs or, with -n, would run."""
    return set(re.findall(r"^(?:local)?rule (\w+):", called(place, "demo", *arguments), flags=re.M))


@pytest.mark.processes
def test_namds_first_training_and_its_cost_are_of_this_run(place: Path) -> None:
    """Its images are shown, so that what is kept of another training would not belong to them."""
    (place / "kept" / "tables").mkdir(parents=True)
    for method in PLAN["methods"]:
        (place / "kept" / "tables" / f"{method}-23-cost.json").touch()
    shown = called(place, "demo", "-n", "-p", "run/evaluation/table1_rows.json", kept="kept")
    assert set(re.findall(r"wildcards: method=(\w+), seed=(\d+)", shown)) == {("namd", "23")}
    assert "kept/tables/flux-23-cost.json" in shown and "kept/tables/namd-23-cost.json" not in shown
    assert "run/tables/namd-23-cost.json" in shown


@pytest.mark.processes
def test_what_depends_on_a_change_is_made_again(place: Path) -> None:
    assert snakemake(place, "-n") == set(RULES), "the whole table"
    table, chain = "run/tables/mcwgan-23.csv", {"judge", "stage", "predictions", "scores"}
    assert snakemake(place, table) == chain
    changes = {
        "bundle/scripts/evaluation/statistics/metrics.py": {"scores"},
        "bundle/scripts/losses.py": chain,
        "bundle/scripts/comparators/mcwgan.py": {"stage", "predictions", "scores"},
        "bundle/scripts/comparators/flux.py": set(),
        "dataset/crops/a.nii.gz": chain,
    }
    for path, expected in changes.items():
        before = (place / path).read_bytes()
        (place / path).write_bytes(before + b"\nchanged = 1\n")
        assert snakemake(place, "-n", table) == expected, path
        if path.endswith("mcwgan.py"):
            images = snakemake(place, "-n", "run/mcwgan/23/predictions.done", "--allowed-rules", "predictions")
            assert images == {"predictions"}, "whatever its weights"
        (place / path).write_bytes(before)
