"""What makes all tests quicker: few collections of garbage, libyaml, and figures without a layout engine."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest
import yaml
from hypothesis import settings
from matplotlib.layout_engine import ConstrainedLayoutEngine

yaml.SafeLoader = yaml.CSafeLoader  # of which MONAI's reader of configurations is made
settings.register_profile("no deadline", deadline=None)  # the first example pays for imports, and machines are busy
settings.load_profile("no deadline")
gc.disable()  # while the tests are imported, which makes nothing but what stays


def pytest_collection_finish() -> None:
    """Leaves what was imported out of every later collection."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def laid_out() -> Iterator[Callable[..., None]]:
    """Figures are drawn, but nothing finds places for their parts, which takes as long again; gives what would."""
    own = ConstrainedLayoutEngine.execute
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConstrainedLayoutEngine, "execute", lambda engine, figure: None)
        yield own
