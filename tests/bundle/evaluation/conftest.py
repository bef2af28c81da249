"""What the tests of the evaluation share."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bundle.evaluation.studies import make_study


@pytest.fixture
def study() -> dict[str, Any]:
    """Arguments of `tests.bundle.evaluation.studies.run`."""
    return make_study()
