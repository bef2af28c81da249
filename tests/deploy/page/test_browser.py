"""The page as people meet it: in Chromium, with the small weights, by mouse and keys, and heard by axe."""

from __future__ import annotations

import asyncio
import base64
import os
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.bundle.evaluation.report import chromium
from tests.deploy.page.conftest import POINT

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1200)]

AXE = """axe.run(document, {resultTypes: ["violations"]}).then(found =>
  found.violations.map(each => `${each.id}: ${each.nodes.map(node => node.target).join(" ")}`))"""
CENTRE = """(() => { const box = document.getElementById("slices").getBoundingClientRect();
  return [box.left + box.width / 2, box.top + box.height / 2]; })()"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The page as it is served, on a port of its own; what this process connects to elsewhere is a failure."""
    import uvicorn

    from deploy.case import Predictor
    from deploy.page.app import make_app
    from deploy.page.settings import Settings

    elsewhere: list[str] = []

    def watch(event: str, told: tuple) -> None:
        if event == "socket.connect" and isinstance(told[1], tuple) and told[1][0] not in ("127.0.0.1", "::1"):
            elsewhere.append(str(told[1]))

    sys.addaudithook(watch)
    port, secret = 20000 + os.getpid() % 20000, tmp_path_factory.mktemp("site") / "secret"
    predictor = Predictor(num_runs=3, num_steps=2, solver="dpmpp")
    app = make_app(Settings(port=port, secret=secret), predictor)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning", ws="none", loop="asyncio"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.1)
    yield f"http://127.0.0.1:{port}/"
    server.should_exit = True
    thread.join(60)
    assert not elsewhere


@pytest.fixture(scope="module")
def page(address, tmp_path_factory):
    """The example with two records, the second larger and spiculated, as its first reader leaves it."""
    executable = chromium.find()
    if executable is None:
        pytest.fail("no Chromium or Chrome on this machine; `make test-browser` installs it")
    page = chromium.Chromium(executable, tmp_path_factory.mktemp("profile"))
    page.requests.clear()
    open_page(page, address)
    yield page
    try:
        assert {
            url.split("/api")[0].split("/static")[0].rstrip("/") for url in page.requests if url != "about:blank"
        } == {address.rstrip("/")}
        assert page.errors == []
    finally:
        page.close()


def open_page(page, address, **how):
    page.open(address, 1300, 900, **how)
    until(page, "document.documentElement.dataset.ready === 'yes'")


def until(page, test, seconds=300.0):
    end = time.monotonic() + seconds
    while not page.evaluate(f"Boolean({test})"):
        assert time.monotonic() < end, f"{test}: {page.evaluate('document.body.innerText')[-3000:]}"
        time.sleep(0.1)


def value(page, name):
    return page.evaluate(f"document.getElementById('{name}').value")


def key(page, name, **more):
    for kind in ("rawKeyDown", "keyUp"):
        page("Input.dispatchKeyEvent", type=kind, key=name, code=name, **more)


def accessible(page):
    import axe_playwright_python

    page.evaluate((Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    return page.evaluate(AXE)


def test_a_case_by_mouse_and_keys(page, address):
    assert accessible(page) == []
    page.evaluate("document.getElementById('example').click()")
    until(page, "document.getElementById('z').value")
    suggested = [float(value(page, axis)) for axis in "xyz"]
    x, y = page.evaluate(CENTRE)
    for kind in ("mousePressed", "mouseReleased"):
        page("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
    chosen = [float(value(page, axis)) for axis in "xyz"]
    assert chosen[:2] != suggested[:2] and abs(chosen[2] - suggested[2]) < 1.3  # the middle of the same slice
    before = int(value(page, "slice"))
    page.evaluate("document.getElementById('slices').focus()")
    key(page, "ArrowUp")
    assert int(value(page, "slice")) == before + 1
    page("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=120)
    until(page, f"document.getElementById('slice').value == {before}")
    key(page, "ArrowRight", modifiers=8)
    assert float(value(page, "x")) == pytest.approx(chosen[0] + 0.698, abs=0.02)
    for axis, number in zip("xyz", suggested, strict=True):
        page.evaluate(f"document.getElementById('{axis}').value = {number}")
    page.evaluate("document.getElementById('z').dispatchEvent(new Event('change'))")
    page.evaluate("document.getElementById('suggested').click()")
    until(page, "document.getElementById('report').textContent.startsWith('64-year-old man')")
    for name, other in (("", ""), ("sct_long_dia", 22), ("sct_margins", 1)):
        if name:
            page.evaluate(f"document.querySelector('[name={name}]').value = '{other}'")
        if name != "sct_long_dia":
            done = page.evaluate("document.getElementById('case').options.length")
            page.evaluate("document.getElementById('record').requestSubmit()")
            until(page, f"document.getElementById('case').options.length > {done}")
    assert page.evaluate("document.activeElement.id") == "result-title"
    text = page.evaluate("document.getElementById('shown').innerText")
    for words in (
        "Malignant:",
        "the record alone",
        "not computable",
        "Growth in the generated",
        "recorded as 22 mm",
        "spiculated",
    ):
        assert words in text
    labels = page.evaluate("[...document.querySelectorAll('#shown canvas')].map(each => each.ariaLabel)")
    assert len(labels) == 4 and all("synthetic, research use only" in label for label in labels[1:])
    assert accessible(page) == []


def test_records_side_by_side_and_size_over_time(page):
    page.evaluate(
        "(() => { const list = document.getElementById('beside'); list.selectedIndex = 1;"
        " list.dispatchEvent(new Event('change')); })()"
    )
    until(page, "document.querySelectorAll('#compared canvas').length == 3")
    colours = page.evaluate("""(() => { const canvas = document.querySelectorAll("#compared canvas")[2];
      const { data } = canvas.getContext("2d").getImageData(0, 40, canvas.width, canvas.height - 100);
      let [cold, warm] = [0, 0];
      for (let at = 0; at < data.length; at += 4) {
        cold += data[at + 2] > data[at] + 20;
        warm += data[at] > data[at + 2] + 20;
      }
      return [cold, warm]; })()""")
    assert max(colours) > 20  # the records make a difference
    assert page.evaluate(
        "[...document.querySelectorAll('#compared mark')].some(each => each.textContent.includes('22 mm'))"
    )
    page.evaluate("document.getElementById('course').click()")
    until(page, "document.querySelector('.course')")
    assert "6 months" in page.evaluate("document.querySelector('.course').getAttribute('aria-label')")
    odd = page.evaluate("document.querySelectorAll('.course .odd').length")
    assert odd == 2  # 6 and 24 months: the weights know 274 to 578 days
    assert accessible(page) == []


@pytest.mark.parametrize(("kind", "head"), [("dicom", b"PK"), ("nifti", b"PK"), ("pdf", b"%PDF")])
def test_downloads(page, kind, head):
    link = f"document.querySelector('a[href$=\"/{kind}\"]').href"
    page_text = page.evaluate(f"""fetch({link}).then(answer => answer.arrayBuffer()).then(content =>
      btoa(String.fromCharCode(...new Uint8Array(content.slice(0, 64)))))""")
    assert base64.b64decode(page_text).startswith(head)


ENTERED = "[...document.querySelectorAll('#groups [name]')].filter(each => each.value).length"


def test_a_folder_from_the_disk_has_an_empty_record(page, chest):
    assert page.evaluate(ENTERED) == 13  # of the scan before, which may be another patient's
    root = page("DOM.getDocument")["root"]["nodeId"]
    node = page("DOM.querySelector", nodeId=root, selector="#folder")["nodeId"]
    page("DOM.setFileInputFiles", nodeId=node, files=[str(chest)])
    until(page, "document.getElementById('loaded').textContent.startsWith('DICOM series: 3 slices of 256')")
    for axis, number in zip("xyz", POINT, strict=True):
        page.evaluate(f"document.getElementById('{axis}').value = {number}")
    page.evaluate("document.getElementById('z').dispatchEvent(new Event('change'))")
    assert int(value(page, "slice")) == 1
    assert page.evaluate(ENTERED) == 0


def test_what_is_wrong_is_said(page, tmp_path):
    (tmp_path / "notes.zip").write_text("no zip")
    root = page("DOM.getDocument")["root"]["nodeId"]
    node = page("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    page("DOM.setFileInputFiles", nodeId=node, files=[str(tmp_path / "notes.zip")])
    until(page, "document.getElementById('fault').textContent.includes('zip file is damaged')")
    page.errors[:] = [error for error in page.errors if "422" not in error]  # Chromium logs it


@pytest.mark.parametrize(("dark", "width"), [(True, 1300), (False, 390)])
def test_after_a_reload_all_is_there_in_dark_and_on_a_telephone(page, address, dark, width):
    page.open(address, width, 844, width < 500, dark)
    until(page, "document.getElementById('case').options.length == 2")
    assert page.evaluate("document.querySelectorAll('#shown canvas').length") == 4
    assert page.evaluate(ENTERED) == 0  # the last case is of another scan than the last that was loaded
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert accessible(page) == []


def test_who_asked_for_less_motion_starts_the_loop(page, address):
    caption = "document.querySelectorAll('#shown figcaption')[1].textContent"
    for reduce, moves in ((False, True), (True, False)):
        open_page(page, address)
        page(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-reduced-motion", "value": "reduce" if reduce else ""}],
        )
        page("Page.reload")
        time.sleep(0.5)
        until(page, "document.querySelectorAll('#shown canvas').length == 4")
        seen = set()
        for _ in range(12):
            seen.add(page.evaluate(caption))
            time.sleep(0.15)
        assert (len(seen) > 1) == moves


def test_all_is_gone_when_asked(page):
    page.evaluate("document.getElementById('forget').click()")
    time.sleep(0.5)
    until(page, "document.documentElement.dataset.ready === 'yes' && document.getElementById('results').hidden")
    assert page.evaluate("document.getElementById('work').hidden")
