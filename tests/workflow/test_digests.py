"""What a job's digest sees: all code that it runs, and nothing that cannot change what it makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

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


@pytest.mark.parametrize(
    ("config", "more", "part"),
    [
        ("train_autoencoder", (), "losses.py"),
        ("compare_flux", (), "comparators/flux.py"),
        ("evaluate", JUDGING, "evaluation/statistics/metrics.py"),
    ],
)
def test_what_a_job_imports_is_in_its_digest(config: str, more: tuple[str, ...], part: str) -> None:
    paths, known = code([str(CONFIGS / f"{config}.yaml")], *more), modules()
    assert f"bundle/scripts/{part}" in paths and all(Path(path).is_file() for path in paths)
    rooms = {room(name) for name, path in known.items() if str(path.relative_to(ROOT)) in paths}
    imported = {room(each) for path in paths for _, each in imports(ROOT / path, known)}
    assert imported - rooms - WITHOUT_EFFECT <= {""}


def test_what_writes_images_is_no_code_of_training() -> None:
    assert set(code([], *SAMPLING)) - set(code([])) == {"bundle/scripts/predictions.py"}


@every_plan
def test_compared_methods_are_code_of_their_own_stages_alone(plan: dict[str, Any]) -> None:
    """A change of Flux trains no NAMD again."""
    stages = plan["methods"]

    def calls(method: str, stage: str) -> bool:
        configs = [str(CONFIGS / f"{name}.yaml") for name in stages[method]["stages"][stage]]
        return f"bundle/scripts/{COMPARATORS}/flux.py" in code(configs)

    assert not any(calls("namd", stage) for stage in stages["namd"]["stages"])
    last = [name for name in stages if "generator" in stages[name]["stages"]]
    assert last and all(calls(name, "generator") for name in last)


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
    assert of("small.yaml", "a: 1\n") != of("small.yaml", "a: 2\n")
