"""What made a result: the command line and the versions of what took part."""

from __future__ import annotations

import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from platform import python_version

PACKAGES = ("monai", "torch", "numpy", "scikit-learn", "transformers", "peft", "lpips", "stlpips-pytorch")


def command_line() -> str:
    """This process's, as it can be typed again."""
    return shlex.join(sys.orig_argv)


def versions() -> dict[str, str]:
    """Of Python and of the packages that decide what comes out."""
    found = {"python": python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
