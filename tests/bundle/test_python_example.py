"""The Python example of the documents runs, from any folder."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def example() -> str:
    """The one fenced block of Python in the documents that opens a workflow."""
    documents = [ROOT / "README.md", *sorted((ROOT / "bundle" / "docs").glob("*.md"))]
    blocks = [block for path in documents for block in re.findall(r"```python\n(.*?)```", path.read_text(), re.S)]
    (found,) = [block for block in blocks if "create_workflow(" in block]
    return found


def test_the_python_example_runs_anywhere(
    bundle: Path, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if Path(path).resolve() != ROOT / "bundle"])
    shutil.copy(tiny_dataset / "4_t0.nii.gz", "CROP.nii.gz")
    Path("EHR.json").write_text(json.dumps({"age": 66}))
    code = example()
    assert '"/path/to/bundle"' in code
    names: dict = {}
    exec(code.replace('"/path/to/bundle"', repr(str(bundle))), names)
    assert (tmp_path / "out" / "predictions" / "CROP" / "samples.nii.gz").is_file()
    samples, inferer = names["samples"], names["workflow"].inferer
    assert samples.shape == (1, 4, 32, 32) and -1 <= samples.min() < samples.max() <= 1
    assert inferer.num_runs == 4
