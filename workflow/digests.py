"""What a job of the table's graph depends on: the code that its configurations call, and the digest of it."""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterable
from functools import cache
from glob import glob
from os.path import isfile
from pathlib import Path

import yaml

SCRIPTS = Path("bundle", "scripts")

TRAINING = ("ehr", "data", "networks", "conditioning", "weights", "diffusion", "training", "files", "losses", "ranks")
"""Rooms and single files of the bundle that every job runs."""

COMPARATORS = "comparators"
"""The room of which a job runs what its configurations name, and what the job's files import of it."""

SAMPLING = ("predictions",)
"""What else writes images."""

JUDGING = ("evaluation", "results", "predictions", "pictures")
"""What else judges them."""


def code(configs: Iterable[str], *more: str) -> list[str]:
    """The Python files that a job with these configurations runs.

    Args:
        more: further rooms and single files of the bundle.

    Raises:
        LookupError: a name that no module of :data:`COMPARATORS` defines.
    """
    places = [SCRIPTS / name for name in (*TRAINING, *more)]
    rooms = [place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")] for place in places]
    found = {str(path) for paths in rooms for path in paths}
    new = {*configs, *found}
    while new:
        new = {module for path in new for name in _named(path) for module in _defining(name)} - found
        found |= new
    return sorted(found)


@cache
def _named(path: str) -> frozenset[str]:
    """What a configuration names of the compared methods, or what a Python file imports of them, in functions too."""
    words = [] if path.endswith(".py") else [repr(_settings(path))]
    for node in ast.walk(_program(path)) if path.endswith(".py") else ():
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            origin = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            words += [origin + each.name for each in node.names]
    return frozenset(re.findall(rf"\b{COMPARATORS}\.(\w+)", "\n".join(words)))


def _defining(name: str) -> list[str]:
    """The modules of the compared methods that bear or define a name; the package itself is a list of names."""
    modules = [path for path in sorted((SCRIPTS / COMPARATORS).glob("*.py")) if path.stem != "__init__"]
    found = [str(path) for path in modules if name == path.stem or name in _definitions(str(path))]
    if not found:
        raise LookupError(f"{SCRIPTS / COMPARATORS}: no module defines {name}, which a job names.")
    return found


@cache
def _definitions(path: str) -> set[str]:
    """Classes, functions and constants of a module."""
    body = _program(path).body
    made = {node.name for node in body if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))}
    assigned = [each for node in body if isinstance(node, (ast.Assign, ast.AnnAssign)) for each in ast.walk(node)]
    return made | {each.id for each in assigned if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}


def cases(dataset: str) -> str:
    """The digest of a dataset: of its datalist and of every crop."""
    crops = glob("**/*.nii*", root_dir=dataset, recursive=True)
    return digest(f"{dataset}/{name}" for name in ("datalist.json", *crops))


def digest(paths: Iterable[str], *words: object) -> str:
    """Of the content of files, and of words; comments, layout and docstrings of Python and YAML have no effect."""
    made = hashlib.sha256("\n".join(map(str, words)).encode())
    for path in filter(isfile, sorted(paths)):
        made.update(_understood(path) if path.endswith((".py", ".yaml")) else Path(path).read_bytes())
    return made.hexdigest()[:12]


@cache
def _understood(path: str) -> bytes:
    """A Python or YAML file as it is understood; neither changes while jobs are planned."""
    return (ast.dump(_program(path)) if path.endswith(".py") else repr(_settings(path))).encode()


@cache
def _settings(path: str) -> object:
    """Of a configuration."""
    return yaml.safe_load(Path(path).read_bytes())


@cache
def _program(path: str) -> ast.Module:
    """A Python file without texts that stand by themselves, as docstrings do."""
    return _WithoutTexts().visit(ast.parse(Path(path).read_bytes()))


class _WithoutTexts(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:  # noqa: N802
        return None if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str) else node
