"""The rules of the house: which room may import which, what is small, what is mirrored, what is common."""

from __future__ import annotations

import ast
import doctest
import importlib
import json
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "bundle" / "scripts"

FLOORS = [
    {"errors", "arrays"},
    {"files", "options", "ranks"},
    {"fingerprint", "provenance"},
    {"ehr", "networks", "conditioning"},
    {"data", "weights", "losses"},
    {"diffusion", "pictures"},
    {"training", "export", "predictions"},
    {"comparators"},
    {"evaluation"},
    {"results"},
]
"""Rooms of the bundle from the ground up: each imports from itself and from floors below."""

DATA_PREP_IMPORTS = {"scripts.ehr", "scripts.errors", "scripts.files", "scripts.arrays"}
"""What data preparation may import of the bundle: neither networks nor anything that needs torch."""

LIGHT = {
    "scripts.files": {"numpy", "pandas", "sklearn", "torch", "monai", "matplotlib"},
    "scripts.options.check": {"numpy", "pandas", "sklearn", "torch", "monai", "matplotlib"},
    "scripts.options.help": {"numpy", "pandas", "sklearn", "torch", "monai", "matplotlib"},
    "scripts.ehr.features": {"numpy", "pandas", "sklearn", "torch", "monai", "matplotlib"},
    "scripts.ehr.report": {"pandas", "sklearn", "torch", "monai", "matplotlib"},
    "scripts.ehr.encoding": {"pandas", "sklearn", "torch", "monai", "matplotlib"},
    "scripts.evaluation.study": {"pandas", "sklearn", "torch", "monai", "matplotlib"},
    "scripts.data.datalist": {"pandas", "sklearn", "torch", "monai", "matplotlib"},
    "scripts.comparators.tables": {"sklearn", "torch", "monai", "matplotlib"},
    "data_prep.cohort": {"sklearn", "torch", "monai", "matplotlib"},
    "deploy.case": {"sklearn", "torch", "monai", "matplotlib"},
    "deploy.page.settings": {"sklearn", "torch", "monai", "matplotlib"},
}
"""Modules that are imported without the packages named: reading a table does not wait for torch."""

WITHOUT_TESTS = {"arrays"}
"""A type and nothing else."""

WHOLE = {
    *(
        "test_card",
        "test_chapter",
        "test_configs",
        "test_deployment",
        "test_gpu",
        "test_no_validation",
        "test_python_example",
        "test_recipes",
    ),
    *("conditioning/test_gemma", "evaluation/report/test_browser", "test_impossible_values"),
}
"""Tests of several modules together, which therefore bear no module's name."""


# --- imports


def name_of(path: Path) -> str:
    """The dotted name under which a file is imported."""
    base = ROOT / "bundle" if path.is_relative_to(ROOT / "bundle") else ROOT
    return ".".join(path.relative_to(base).with_suffix("").parts).removesuffix(".__init__")


def modules() -> dict[str, Path]:
    """Every module of the bundle, of data preparation and of deployment."""
    folders = [SCRIPTS, ROOT / "data_prep", ROOT / "deploy"]
    return {name_of(path): path for folder in folders for path in sorted(folder.rglob("*.py"))}


@cache
def tree(path: Path) -> ast.Module:
    """A file, parsed once."""
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path, known: dict[str, Path]) -> Iterator[tuple[int, str]]:
    """Line and module of every import of ``known``, those inside functions too; of names, their module."""
    package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            inner = [f"{origin}.{alias.name}" for alias in node.names]
            found = [each if each in known else origin for each in inner]
        else:
            continue
        yield from ((node.lineno, each) for each in found if each in known)


def room(module: str) -> str:
    """``training`` of ``scripts.training.engines``."""
    return (module.split(".") + [""])[1]


def test_no_import_climbs() -> None:
    known = modules()
    floor = {name: number for number, floor in enumerate(FLOORS) for name in floor}
    assert {room(module) for module in known if module.startswith("scripts.")} == floor.keys(), "a room has no floor"
    climbing = []
    for module, path in known.items():
        for line, other in imports(path, known):
            top, below = module.split(".")[0], other.split(".")[0]
            if top == below == "scripts" and module != "scripts":
                wrong = room(module) != room(other) and floor[room(module)] <= floor.get(room(other), -1)
            elif (top, below) == ("data_prep", "scripts"):
                wrong = f"scripts.{room(other)}" not in DATA_PREP_IMPORTS
            else:
                wrong = (top, below) in (("scripts", "data_prep"), ("scripts", "deploy"), ("data_prep", "deploy"))
            if wrong:
                climbing.append(f"{path.relative_to(ROOT)}:{line} imports {other}")
    assert not climbing, "\n".join(climbing)


def test_no_module_imports_itself_in_a_circle() -> None:
    known = modules()
    graph = {name: {other for _, other in imports(path, known)} - {name} for name, path in known.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_the_reader_of_imports_sees_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain, from a package, relative, of a module by its package, in a function; and nothing from elsewhere."""
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "bundle" / "scripts" / "a").mkdir(parents=True)
    path = tmp_path / "bundle" / "scripts" / "a" / "b.py"
    path.write_text(
        "import os, scripts.c\nfrom scripts.d import thing\nfrom scripts import e\nfrom . import f\nfrom ..g import h\n"
        "def function():\n    from scripts.i.j import k\n"
    )
    names = ("a", "a.b", "a.f", "c", "d", "e", "g", "i.j", "unused")
    found = imports(path, {f"scripts.{name}": path for name in names})
    assert list(found) == [
        *((1, "scripts.c"), (2, "scripts.d"), (3, "scripts.e"), (4, "scripts.a.f"), (5, "scripts.g")),
        (7, "scripts.i.j"),
    ]


def test_what_reads_a_table_does_not_wait_for_torch() -> None:
    """Imported one after the other in one process, the least first; the message names what each imported in vain."""
    program = f"import importlib, sys\nfor module, heavy in {LIGHT!r}.items():\n    importlib.import_module(module)\n"
    program += "    if found := sorted(name for name in heavy if name in sys.modules): print(module, *found)"
    environment = {"PYTHONPATH": f"{ROOT / 'bundle'}:{ROOT}"}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_inference_does_not_wait_for_peft() -> None:
    """peft takes seconds to import where bitsandbytes is installed, so that functions import it."""
    at_once = []
    for path in sorted(SCRIPTS.rglob("*.py")):
        for node in tree(path).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            if {name.split(".")[0] for name in names} & {"peft", "bitsandbytes"}:
                at_once.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not at_once


def test_text_files_have_an_encoding() -> None:
    """Else Python takes the locale's. JSON is read as bytes, whose encoding it knows."""
    without = []
    for folder in (SCRIPTS, ROOT / "data_prep", ROOT / "deploy"):
        for path in sorted(folder.rglob("*.py")):
            for node in ast.walk(tree(path)):
                if isinstance(node, ast.Call) and opens_text(node) and "encoding" not in {k.arg for k in node.keywords}:
                    without.append(f"{path.relative_to(ROOT)}:{node.lineno} opens text without encoding=")
    assert not without, "\n".join(without)


def opens_text(call: ast.Call) -> bool:
    """Whether a call is ``open(path)``, ``path.open()``, ``path.read_text()`` or ``path.write_text(text)``."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in ("read_text", "write_text"):
        return isinstance(call.func, ast.Attribute)
    texts = [each.value for each in (*call.args, *(k.value for k in call.keywords)) if isinstance(each, ast.Constant)]
    return (
        name == "open"
        and ast.unparse(call.func) != "os.open"
        and not any("b" in str(mode) and len(str(mode)) < 4 for mode in texts)
    )


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        *(
            (text, True)
            for text in ("open(path)", "open(path, 'w')", "path.open()", "path.read_text()", "a.write_text(b)")
        ),
        *(
            (text, False)
            for text in (
                *("open(path, 'rb')", "open(path, mode='xb')", "write_text(a, b)", "path.read_bytes()"),
                "os.open(path, os.O_RDONLY)",
            )
        ),
    ],
)
def test_the_finder_of_text_files_sees_every_form(call: str, expected: bool) -> None:
    node = ast.parse(call, mode="eval").body
    assert isinstance(node, ast.Call) and opens_text(node) == expected


# --- what is public


PACKAGES = ["scripts", *(each.name for each in pkgutil.walk_packages([str(SCRIPTS)], "scripts.") if each.ispkg)]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_resolves(package: str) -> None:
    module = importlib.import_module(package)
    missing = [name for name in getattr(module, "__all__", []) if not hasattr(module, name)]
    assert not missing and (module.__doc__ or "").strip()
    assert package == "scripts" or module.__all__, "a package names what is public"


@pytest.mark.parametrize(
    "name",
    [
        "scripts.losses.LatentAlignmentLoss",
        "scripts.networks.StableDiffusionAutoencoder",
        "scripts.networks.StableDiffusionUNet",
        "scripts.conditioning.ReportConditioner",
        "scripts.diffusion.ProgressionInferer",
    ],
)
def test_names_that_others_rely_on_stay_where_they_are(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    assert isinstance(getattr(importlib.import_module(module), attribute), type)


WITH_EXAMPLES = [name for name, path in modules().items() if path.is_relative_to(SCRIPTS) and ">>>" in path.read_text()]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_in_docstrings_run(name: str) -> None:
    results = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.attempted and not results.failed


# --- what is small, and what is mirrored


def test_files_and_functions_are_small() -> None:
    """350 lines a file, 60 a function with its docstring."""
    large = []
    for folder in (SCRIPTS, ROOT / "data_prep", ROOT / "benchmarks", ROOT / "deploy"):
        for path in sorted(folder.rglob("*.py")):
            text = path.read_text()
            spans = {
                f"{path.relative_to(ROOT)}: {node.name}": node.end_lineno - node.lineno + 1
                for node in ast.walk(tree(path))
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno
            }
            large += [f"{name} has {lines} lines" for name, lines in spans.items() if lines > 60]
            if (lines := len(text.splitlines())) > 350:
                large.append(f"{path.relative_to(ROOT)} has {lines} lines")
    assert not large, "\n".join(large)


def test_tests_mirror_the_bundle() -> None:
    """A file of tests a module, in the same place, and no other but those of several modules together."""
    modules = {path.relative_to(SCRIPTS) for path in SCRIPTS.rglob("*.py") if path.name != "__init__.py"}
    tests = ROOT / "tests" / "bundle"
    expected = {str(path.with_name(f"test_{path.stem}")) for path in modules} - {
        f"test_{each}" for each in WITHOUT_TESTS
    }
    found = {str(path.relative_to(tests).with_suffix("")) for path in tests.rglob("test_*.py")}
    assert sorted(expected - found) == [] and sorted(found - expected - WHOLE) == []


def test_tests_mirror_deployment() -> None:
    """A file of tests a module, in the same place; those that need a PACS, validators or a browser are of several."""
    deploy, tests = ROOT / "deploy", ROOT / "tests" / "deploy"
    modules = {str(path.relative_to(deploy).with_suffix("")) for path in deploy.rglob("*.py") if path.stem[0] != "_"}
    paths = [path.relative_to(tests) for path in tests.rglob("test_*.py")]
    paths = [path for path in paths if path.parts[0] != "hospital" and path.stem != "test_browser"]
    found = {str(path.with_name(path.stem.removeprefix("test_"))) for path in paths}
    assert sorted(found) == sorted(modules)


# --- the four stages' configurations

OWN = {
    *("stage", "imports", "record", "network_def", "network", "classifier", "autoencoder", "conditioner", "prepare"),
    "built_on/pretrained",
    *("batch_size", "max_epochs", "learning_rate", "warmup_steps", "decay_steps", "weight_decay", "loss_function"),
    *("ema/module", "optimizer/params", "optimizer/betas", "optimizer/weight_decay", "checkpoint/best"),
    *("train/dataset", "train/preprocessing", "train/inferer", "train/trainer/prepare_batch"),
    "train/trainer/network",  # U-Nets alone compute activations again
    *("train/dataloader/num_workers", "train/handlers/0/loss", "train/handlers/0/extra"),
    *("validate/dataset", "validate/preprocessing", "validate/inferer", "validate/dataloader/num_workers"),
    *("validate/evaluator/network", "validate/evaluator/prepare_batch", "validate/evaluator/additional_metrics"),
    *("validate/additional_metrics", "publish"),
}
"""What a stage decides for itself; everything else that two stages have is the same in both."""

COMMON = ("ema", "optimizer", "checkpoint", "lr_scheduler", "train", "validate", "training", "run")
"""Parts whose every value stands in all four stages, but for those of ``OWN``."""


def leaves(content: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Key, with slashes, and value of everything in nested dictionaries and lists."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    found = [leaf for name, value in items for leaf in leaves(value, f"{key}/{name}".lstrip("/"))]
    yield from found or [(key, content)]


def test_what_is_common_to_the_stages_is_common() -> None:
    stages = {
        path.stem: dict(leaves(yaml.safe_load(path.read_text())))
        for path in sorted((ROOT / "bundle" / "configs").glob("train_*.yaml"))
    }
    assert len(stages) == 4
    faults = []
    for key in sorted(set().union(*stages.values())):
        if any(key == own or key.startswith(f"{own}/") for own in OWN):
            continue
        having = {stage: leaf[key] for stage, leaf in stages.items() if key in leaf}
        if len({json.dumps(value) for value in having.values()}) > 1:
            faults.append(f"{key} differs: {having}")
        if key.split("/")[0] in COMMON and len(having) < 4:
            faults.append(f"{key} is in {', '.join(having)} alone")
    assert not faults, "\n".join(faults)
