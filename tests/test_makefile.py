"""The Makefile: each file is made again when what it is made from has changed."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from functools import cache
from pathlib import Path
from statistics import median

import pytest

from scripts.comparators.published import PUBLISHED
from tests.test_house import imports, modules
from workflow.digests import JUDGING, code

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "Makefile").read_text()

WITHOUT_EFFECT = {"scripts.arrays", "scripts.errors", "scripts.files"}
"""What no number depends on: types, messages, and files that appear whole."""


@cache
def prerequisites() -> dict[str, list[str]]:
    """Of each file, with all wildcards expanded."""
    command = ["make", "-npq", "RUN=runs/x"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    rules = (line.partition(":") for line in shown.splitlines() if line.startswith("runs/x/"))
    return {target: needed.split() for target, _, needed in rules}


def imported(module: str) -> set[str]:
    """A module, and all that it imports of the project, and these, but for what has no effect."""
    known = modules()
    found, rest = {module}, [module]
    while rest:
        new = {each for _, each in imports(known[rest.pop()], known)} - found - WITHOUT_EFFECT
        found, rest = found | new, [*rest, *new]
    return {str(known[each].relative_to(ROOT)) for each in found if known[each].name != "__init__.py"}


@pytest.mark.parametrize(
    ("file", "module"),
    [("phantom/cohort.csv", "data_prep.phantom.cohort"), ("dataset/datalist.json", "data_prep.cohort")],
)
def test_a_dataset_is_made_again_when_what_makes_it_changes(file: str, module: str) -> None:
    assert imported(module) <= set(prerequisites()[f"runs/x/{file}"])


def test_what_judges_makes_the_page_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the digest of Table 1 says that judges, beside what made images and weights."""
    monkeypatch.chdir(ROOT)
    judging = set(code(["bundle/configs/evaluate.yaml"], *JUDGING)) - set(code([]))
    for page in ("evaluation", "comparisons"):
        assert judging <= set(prerequisites()[f"runs/x/{page}/report.html"]), page


@pytest.mark.parametrize(
    ("given", "check"),
    [
        ("", ".venv/bin/python workflow/rows.py table TABLE"),
        ("-n", None),
        ("runs/table1/tables/flux-23.csv", "test ! -e TABLE || .venv/bin/python workflow/rows.py table TABLE"),
        ("--executor slurm", "test ! -e TABLE || .venv/bin/python workflow/rows.py table TABLE"),
    ],
)
def test_a_whole_table_is_looked_through_last(given: str, check: str | None) -> None:
    """That Snakemake ended well says nothing of scores. Asked for single files, it has made no table yet."""
    command = ["make", "-n", "--no-print-directory", "table1", "DATASET=dataset", "TABLE1=runs/t", f"SNAKEMAKE={given}"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    lines = [line for line in shown.splitlines() if not line.startswith("make[")]
    checks = [line.strip() for line in lines if "rows.py table" in line]
    assert checks == ([check.replace("TABLE", "runs/t/evaluation/table1/table1.csv")] if check else [])
    assert not checks or "rows.py table" in lines[-1]
    assert any("snakemake -s workflow/Snakefile" in line for line in lines[-3:])


def test_the_released_weights_are_trained_as_the_folds_chose() -> None:
    recipe = TEXT[TEXT.index("RELEASED = ") :].split("\n\n")[0]
    folds = ROOT / "benchmarks" / "folds_lidc"
    chosen = json.loads((folds / "generated.json").read_text())
    name = "prompts" if chosen["conditioner"]["prompt_length"] else "no_prompts"
    best = [json.loads((fold / "made.json").read_text()) for fold in folds.glob("fold_*")]
    stages = {
        stage: [each[stage] for each in best]
        for stage in ("autoencoder", "unconditional", "classifier", "direct_classifier")
    }
    stages["conditional"] = [epoch for each in best for key, epoch in each.items() if key.startswith(f"{name}_seed_")]
    medians = {stage: int(median(epochs)) for stage, epochs in stages.items()}
    assert {stage: int(epochs) for stage, epochs in re.findall(r"EPOCHS_(\w+)=(\d+)", recipe)} == medians
    assert ("no_prompts.yaml" in recipe) == (name == "no_prompts")
    assert f"--guidance_scale {chosen['sampling']['guidance_scale']}" in recipe


@pytest.mark.parametrize("table", ["record_only", "direct_classifier"])
def test_a_table_of_an_earlier_dataset_is_removed_first(table: str) -> None:
    """Else it would be refused as one of another dataset."""
    recipe = TEXT[TEXT.index(f"$(RUN)/baselines/{table}.csv:") :].split("\n\n")[0]
    assert recipe.index("\trm -f $@" if table == "record_only" else "rm -rf") < recipe.index("$(bundle)")


def test_comparisons_name_tables_as_their_published_methods_are_named() -> None:
    """By whose names their thresholds on held-out cases are found."""
    command = ["make", "-n", "runs/x/comparisons/report.html", "RUN=runs/x", "DATASET=dataset", "ABLATIONS="]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    (tables,) = re.findall(r'--tables "(\{.*?\})"', shown)
    assert set(ast.literal_eval(tables)) == set(PUBLISHED)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ("GPU 0: A100 (UUID: a)\n  MIG 1g.10gb Device 0: (UUID: b)\n  MIG 1g.10gb Device 1: (UUID: c)\n", "gpu=1"),
        ("GPU 0: H200 (UUID: a)\nGPU 1: H200 (UUID: b)\n", "gpu=1"),
        ("NVIDIA-SMI has failed because it could not communicate with the driver.\n", "gpu=0"),
    ],
    ids=["parts of one", "two", "none"],
)
def test_one_job_at_a_time_has_the_gpu(tmp_path: Path, shown: str, expected: str) -> None:
    """No job is given one of its own, so that all would have the first."""
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<END\n{shown}END\n")
    program.chmod(0o755)
    command = ["make", "-n", "table1", "JOBS=2", "DATASET=dataset"]
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    recipe = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment).stdout
    assert f"--resources {expected} " in recipe
