"""The table of what readers decide (data_prep/README.md): our column is what we do."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("SimpleITK", reason="no SimpleITK (pip install SimpleITK)")

from benchmarks import decisions  # noqa: E402

README = Path(__file__).resolve().parents[2] / "data_prep" / "README.md"


def test_our_column_is_what_we_do(tmp_path: Path) -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("| situation |")) + 2
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[first:] if line.startswith("|")]
    for number, ((words, kind, edit), row) in enumerate(zip(decisions.SITUATIONS, rows, strict=False)):
        path, truth, _ = decisions.made(kind, edit, tmp_path / str(number))
        assert [row[0], row[-1]] == [words, decisions.ours(path, truth)]
