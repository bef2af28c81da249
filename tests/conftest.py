"""What makes all tests quicker: fewer collections of garbage, and figures without a layout engine."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

gc.disable()  # while the tests are imported, which makes nothing but what stays


def pytest_collection_finish() -> None:
    """Leaves what was imported out of every later collection."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def without_layout() -> Iterator[None]:
    """Figures are drawn, but their parts stay where they are: matplotlib's engine draws each twice to place them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("matplotlib.layout_engine.ConstrainedLayoutEngine.execute", lambda engine, figure: None)
        yield
