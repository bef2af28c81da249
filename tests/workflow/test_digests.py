"""What a job's digest sees: all code that it runs, and nothing that cannot change what it makes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from scripts import comparators
from tests.test_house import imports, modules, room
from tests.workflow.plans import every_plan
from workflow.digests import COMPARATORS, JUDGING, SAMPLING, cases, code, digest

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "bundle" / "configs"

WITHOUT_EFFECT = {"arrays", "errors", "fingerprint", "options", "provenance"}
"""What training imports and no weight depends on: types, messages, digests, options and notes."""


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where make starts the graph."""
    monkeypatch.chdir(ROOT)


def configured(names: list[str]) -> list[str]:
    """Files of configurations."""
    return [str(CONFIGS / f"{name}.yaml") for name in names]


@pytest.mark.parametrize(
    ("config", "more", "part"),
    [
        ("train_autoencoder", (), "losses.py"),
        ("compare_flux", (), "comparators/flux.py"),
        ("evaluate", JUDGING, "evaluation/statistics/metrics.py"),
    ],
)
def test_what_a_job_imports_is_in_its_digest(config: str, more: tuple[str, ...], part: str) -> None:
    paths, known = code(configured([config]), *more), modules()
    assert f"bundle/scripts/{part}" in paths and all(Path(path).is_file() for path in paths)
    rooms = {room(name) for name, path in known.items() if str(path.relative_to(ROOT)) in paths}
    imported = {room(each) for path in paths for _, each in imports(ROOT / path, known)}
    assert imported - rooms - WITHOUT_EFFECT <= {""}


def test_what_writes_images_is_no_code_of_training() -> None:
    assert set(code([], *SAMPLING)) - set(code([])) == {"bundle/scripts/predictions.py"}


@every_plan
def test_compared_methods_are_code_of_their_own_stages_alone(plan: dict[str, Any]) -> None:
    """A change of Flux trains neither NAMD nor another method again, and one of the list of names nobody."""
    stages = {
        (name, stage): code(configured(configs))
        for name, method in plan["methods"].items()
        for stage, configs in method["stages"].items()
        if isinstance(configs, list)
    }

    def calling(module: str) -> set[tuple[str, str]]:
        return {key for key, paths in stages.items() if f"bundle/scripts/{COMPARATORS}/{module}.py" in paths}

    assert calling("flux") == {("flux", "generator")}
    assert calling("told") == {("mcwgan_told", "generator"), ("corrflownet_told", "generator")}
    assert calling("adversarial") == {("sd15", "autoencoder"), ("ddl_cxr", "autoencoder")}
    assert calling("generator") == {key for key in stages if key[1] == "generator"} | {("corrflownet", "autoencoder")}
    assert not calling("__init__") and not calling("generation")


@every_plan
def test_what_a_compared_method_imports_is_in_its_digest(plan: dict[str, Any]) -> None:
    """By the modules in which Python finds the names of its last stage, and all that these import."""
    known = modules()
    for name, method in plan["methods"].items():
        configs = configured(list(method["stages"].values())[-1])
        names = re.findall(rf"{COMPARATORS}\.(\w+)", "".join(Path(path).read_text() for path in configs))
        rest = {getattr(comparators, each).__module__ for each in names}
        assert bool(rest) == ("generator" in method["stages"])
        found: set[str] = set()
        while rest:
            found |= rest
            rest = {each for module in rest for _, each in imports(known[module], known)} - found
        theirs = {str(known[each].relative_to(ROOT)) for each in found if room(each) == COMPARATORS}
        assert theirs - {f"bundle/scripts/{COMPARATORS}/__init__.py"} <= set(code(configs)), name


def test_those_that_open_a_method_by_its_name_are_known() -> None:
    """They import the list of names alone, so that the graph has to say which method it will be."""
    known = modules()
    imported = {name: {each for _, each in imports(path, known)} for name, path in known.items()}
    opening = {name for name, found in imported.items() if f"scripts.{COMPARATORS}" in found}
    assert opening == {f"scripts.{COMPARATORS}.generator", f"scripts.{COMPARATORS}.generation"}


def test_imports_in_functions_count_and_unknown_names_are_refused(tmp_path: Path) -> None:
    (tmp_path / "judge.py").write_text(f"def late():\n    from scripts.{COMPARATORS}.lora import LoRANetwork\n")
    added = set(code([], str(tmp_path / "judge"))) - set(code([]))
    assert added == {str(tmp_path / "judge.py"), f"bundle/scripts/{COMPARATORS}/lora.py"}
    (tmp_path / "compare.yaml").write_text(f"network: ${COMPARATORS}.NoSuchMethod() # comparators.Flux\n")
    with pytest.raises(LookupError, match="no module defines NoSuchMethod"):
        code([str(tmp_path / "compare.yaml")])


def test_a_dataset_is_its_datalist_and_its_crops(tmp_path: Path) -> None:
    (tmp_path / "crops").mkdir()
    datalist, first, second = (tmp_path / name for name in ("datalist.json", "crops/a.nii.gz", "crops/b.nii.gz"))
    for path in (datalist, first, second):
        path.write_text(path.name)
    before = cases(str(tmp_path))
    (tmp_path / "datasheet.md").write_text("written again")
    assert cases(str(tmp_path)) == before
    for path in (datalist, first, second):
        text = path.read_text()
        path.write_text("cut again")
        assert cases(str(tmp_path)) != before, path.name
        path.write_text(text)
    first.write_text("b.nii.gz")
    second.write_text("a.nii.gz")
    assert cases(str(tmp_path)) != before, "of another name"


def test_a_digest_sees_content_and_no_comments(tmp_path: Path) -> None:
    def of(name: str, text: str, *words: str) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        (folder / name).write_text(text)
        return digest([str(folder / name)], *words)

    loss = of("losses.py", "weight = 1.0\n")
    assert loss == of("losses.py", "# of the loss\nweight  =  1.0  # as published\n")
    assert loss != of("losses.py", "weight = 2.0\n") and loss != of("losses.py", "weight = 1.0\n", "--max_epochs 4")
    told = (
        '"""Of losses."""\nclass Loss:\n    """One."""\n    def of(self):\n        "Its value."\n        return "a"\n'
    )
    worded = told.replace("Of losses", "Losses").replace("One", "Another").replace("Its value", "A number")
    assert of("losses.py", told) == of("losses.py", worded) != of("losses.py", told.replace('"a"', '"b"'))
    small = of("small.yaml", "a: 1\nb: [$1 + 1, 2]\n")
    assert small == of("small.yaml", "# of all stages\na:   1 # as published\nb:\n- $1 + 1\n- 2\n")
    assert small != of("small.yaml", "a: 2\nb: [$1 + 1, 2]\n") and small != of("small.yaml", "a: 1\nb: [$1 + 2, 2]\n")
    assert of("datalist.json", "{}") != of("datalist.json", "{ }"), "of other files every byte"
