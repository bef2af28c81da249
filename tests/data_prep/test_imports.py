"""Which part of data_prep may import which, and what a start does not pay for."""

import ast
import subprocess
import sys
from pathlib import Path

import data_prep

ROOT = Path(data_prep.__file__).parent
NOT_BY = {
    "images": ("data_prep.nlst", "data_prep.phantom", "data_prep.sources"),
    "nlst": ("data_prep.phantom", "data_prep.sources"),
    "sources": ("data_prep.phantom",),
    "phantom": ("data_prep.sources",),
}
SLOW = ("jinja2", "matplotlib", "nibabel", "pandera", "pydicom", "scipy", "sklearn", "torch")


def imported(path: Path) -> set[str]:
    """Every module that a file imports, also within functions."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_rooms_are_not_imported_against_the_arrows():
    for room, forbidden in NOT_BY.items():
        for path in (ROOT / room).rglob("*.py"):
            against = {
                name for name in imported(path) if f"{name}.".startswith(tuple(f"{part}." for part in forbidden))
            }
            assert not against, f"{path}: {against}"


def test_the_cohort_is_imported_without_what_it_uses_later():
    code = f"import sys, data_prep.cohort; print([name for name in {SLOW} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
