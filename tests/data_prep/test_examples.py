"""The examples in docstrings of what users call from Python."""

import doctest
import shutil

import pytest

from data_prep import check, cohort
from data_prep.images import crops


@pytest.mark.parametrize(
    "function", [cohort.build, check.examine, crops.cut], ids=lambda function: function.__qualname__
)
def test_runs_and_gives_what_it_says(function, phantom, tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(phantom, tmp_path / "phantom").parent)
    for module in (cohort, check):
        monkeypatch.setattr(module, "track", lambda items, *_, **__: items)  # a progress bar is no result
    if function is check.examine:
        cohort.build(tmp_path / "phantom" / "cohort.csv", tmp_path / "dataset", size=64)
    (example,) = doctest.DocTestFinder(recurse=False).find(function, function.__name__)
    assert example.examples and not doctest.DocTestRunner().run(example).failed
