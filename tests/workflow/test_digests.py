"""What a job's digest sees: all code that it runs, and nothing that cannot change what it makes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.test_house import imports, modules
from workflow.digests import COMPARATORS, FILES, ROOMS, SAMPLER, code, digest

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "bundle" / "configs"

WITHOUT_EFFECT = {"arrays", "errors", "fingerprint", "options", "provenance"}
"""What training imports and no weight depends on: types, messages, digests, options and notes."""


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where make starts the graph."""
    monkeypatch.chdir(ROOT)


def test_single_files_that_training_imports_are_in_the_digest() -> None:
    known = modules()
    rooms = {name: path for name, path in known.items() if name.split(".")[1:2] in [[room] for room in ROOMS]}
    found = {each.split(".")[1] for path in rooms.values() for _, each in imports(path, known) if "." in each}
    assert found - set(ROOMS) - WITHOUT_EFFECT <= set(FILES) and "losses" in found
    compared = {name: path for name, path in known.items() if name.startswith(f"scripts.{COMPARATORS}")}
    found = {each.split(".")[1] for path in compared.values() for _, each in imports(path, known) if "." in each}
    assert found - {*ROOMS, COMPARATORS} - WITHOUT_EFFECT == set(FILES)
    assert {f"bundle/scripts/{name}.py" for name in FILES} <= set(code([]))
    assert "bundle/scripts/predictions.py" in set(code([], SAMPLER)) - set(code([]))


def test_compared_methods_are_code_of_their_own_stages_alone() -> None:
    """A change of Flux trains no NAMD again."""
    stages = yaml.safe_load((ROOT / "workflow" / "table1.yaml").read_text())["methods"]

    def calls(method: str, stage: str) -> bool:
        configs = [str(CONFIGS / f"{name}.yaml") for name in stages[method]["stages"][stage]]
        return f"bundle/scripts/{COMPARATORS}/flux.py" in code(configs)

    assert not any(calls("namd", stage) for stage in stages["namd"]["stages"])
    last = [name for name in stages if "generator" in stages[name]["stages"]]
    assert len(last) == 9 and all(calls(name, "generator") for name in last)


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
