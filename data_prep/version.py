"""The version of the project: the one that the bundle's metadata names. It stands alone, since setuptools reads it."""

import json
from pathlib import Path

METADATA = Path(__file__).resolve().parents[1] / "bundle" / "configs" / "metadata.json"
VERSION: str = json.loads(METADATA.read_text(encoding="utf-8"))["version"]
