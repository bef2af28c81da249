"""README: short enough for a first screen; and what all documents point at is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from PIL import Image

from data_prep.version import VERSION

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "bundle/docs/*.md", "benchmarks/*.md", "data_prep/*.md", "deploy/*.md", "findings/*.md")
    for path in ROOT.glob(pattern)
)


def test_readme_has_at_most_700_words() -> None:
    assert 300 < len((ROOT / "README.md").read_text().split()) <= 700


def test_the_picture_is_small_and_its_caption_says_what_it_is() -> None:
    readme = " ".join((ROOT / "README.md").read_text().split())
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", readme)
    assert pictures == ["bundle/docs/phantom_case.png"]
    path = ROOT / pictures[0]
    assert path.stat().st_size < 200_000 and Image.open(path).format == "PNG"
    caption = readme.split(f"({pictures[0]})")[1].split("##")[0].lower()
    assert all(word in caption for word in ("simulated", "synthetic", "research only", "make picture"))


def anchors(text: str) -> set[str]:
    """What GitHub makes of headings."""
    headings = re.findall(r"^#+ (.+)$", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        if link.startswith("https://"):
            continue
        place, _, anchor = link.partition("#")
        target = path.parent / place if place else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text()), link


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_make_targets_exist(path: Path) -> None:
    rules = re.findall(r"^([\w \-]+):(?!=)", (ROOT / "Makefile").read_text(), flags=re.M)
    targets = {target for rule in rules for target in rule.split()}
    named = set(re.findall(r"(?:`| {4})make ([a-z][\w-]*)", path.read_text()))
    assert named <= targets, named - targets


def test_files_in_backticks_exist() -> None:
    """Configurations and paths into the repository, in the documents that describe it."""
    configs = {path.name for path in (ROOT / "bundle" / "configs").iterdir()}
    for path in DOCUMENTS:
        text = path.read_text()
        for name in re.findall(r"`(?:bundle/configs/)?(\w+\.yaml)`", text):
            assert name in configs, f"{path.name}: {name}"
        for name in re.findall(r"`((?:bundle|data_prep|deploy|benchmarks|tests|findings)/[\w./-]+)`", text):
            assert (ROOT / name).exists(), f"{path.name}: {name}"


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == VERSION and citation["license"] == "Apache-2.0"
    assert "2603.15932" in citation["references"][0]["url"]
