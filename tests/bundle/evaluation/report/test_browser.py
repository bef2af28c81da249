"""The report as a reader meets it: opened in headless Chromium, without a network."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from scripts.evaluation.table_one import FILE
from tests.bundle.evaluation.report import chromium
from tests.bundle.evaluation.studies import make_study, run

pytestmark = pytest.mark.browser

SHOWN = """({
  name: document.getElementById("name").textContent,
  place: document.getElementById("place").textContent,
  outcome: document.getElementById("outcome").textContent,
  record: document.getElementById("record").textContent,
  runs: document.querySelectorAll("#scores circle").length,
  sizes: document.querySelectorAll("#course circle").length,
  first: document.querySelector("h2").textContent,
  captions: [...document.querySelectorAll("#tiles figcaption")].map(each => each.textContent),
  listed: [...document.getElementById("case").options].map(each => each.value),
})"""
DRAWN = """new Promise(done => setTimeout(() => {
  const canvas = document.querySelector("#tiles canvas");
  done([...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data]
    .filter((value, index) => index % 4 === 0));
}, 200))"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    study = make_study()
    study["cases"] = [case | {"interval_days": 365} for case in study["cases"]]
    spacing = np.full((len(study["cases"]), 2), 0.5)
    rows = [{"title": "NAMD without both losses", "rows": ["NAMD"], "reads": ["image", "record", "interval"]}]
    (folder / FILE).write_text(json.dumps({"rows": rows}))
    run(study, folder, drawn=True, spacing={"baseline": spacing, "follow_up": spacing})
    return study, folder / "report.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    executable = chromium.find()
    if executable is None:
        pytest.fail("no Chromium or Chrome on this machine; `make test-browser` installs it")
    page = chromium.Chromium(executable, tmp_path_factory.mktemp("profile"))
    yield page
    page.close()


def test_choosing_a_case_shows_it(browser, report):
    study, path = report
    browser.open(path.as_uri())
    first = browser.evaluate(SHOWN)
    assert first["name"] == "case-00" and first["place"] == "1 of 12" and first["outcome"] == "malignant"
    assert first["first"] == "Case by case" and first["sizes"] == 1 + 4, "the baseline's and each run's"
    assert first["runs"] == 4 and f"Longest diameter {study['cases'][0]['ehr']['sct_long_dia']:.1f}" in first["record"]
    assert first["captions"][:4] == [
        "baseline",
        "mean of 4 runs, synthetic",
        "standard deviation, synthetic",
        "follow-up (data set)",
    ]
    assert all(caption.endswith("synthetic") for caption in first["captions"][4:])

    browser.press("ArrowRight")
    assert browser.evaluate(SHOWN)["name"] == "case-01"
    browser.press("ArrowLeft")
    browser.press("ArrowLeft")
    assert browser.evaluate(SHOWN)["name"] == "case-11"

    choose = "(() => {{ const list = document.getElementById('{}'); list.value = '{}'; {} }})()"
    changed = "list.dispatchEvent(new Event('change'))"
    browser.evaluate(choose.format("filter", "malignant", changed))
    malignant = [case["case_id"] for case in study["cases"] if case["malignant"]]
    assert browser.evaluate(SHOWN)["listed"] == malignant
    browser.evaluate(choose.format("case", malignant[2], changed))
    assert browser.evaluate(SHOWN)["name"] == malignant[2] and browser.evaluate("location.hash").endswith(malignant[2])
    assert browser.errors == []


def test_the_picture_is_the_case(browser, report):
    """The canvas shows the baseline's pixels, x to the right, scaled without smoothing."""
    study, path = report
    browser.open(path.as_uri() + "#case=case-05")
    drawn = np.array(browser.evaluate(DRAWN), dtype=float).reshape(256, 256)
    real = (study["baseline"][5, 0].T + 1) / 2 * 255
    assert np.abs(drawn[2::4, 2::4][10:] - real[10:]).max() < 2  # the bar of 10 mm is above


@pytest.mark.parametrize(("width", "mobile"), [(1280, False), (390, True)])
def test_it_fits_the_screen_and_asks_for_nothing(browser, report, width, mobile):
    _, path = report
    browser.requests.clear()
    browser.open(path.as_uri(), width, 844, mobile)
    browser.evaluate("new Promise(done => setTimeout(done, 200))")
    assert {url.split(":")[0] for url in browser.requests} <= {"file", "data"}
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    title = browser.evaluate("document.querySelector('#table1 tbody th').getBoundingClientRect().width")
    assert title > 100, "the widest table scrolls by itself, and leaves a method's title its words"
    colours = Image.open(io.BytesIO(browser.screenshot())).convert("RGB").getcolors(1 << 24)
    assert len(colours) > 50  # text and pictures, not an empty page
    assert browser.errors == []
