import json
import re
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from data_prep.check import examine, print_overview
from data_prep.cohort import build
from tests.data_prep.helpers import EHR, rows, stack, write_series, write_table


def cells(text, first):
    """The cells of a line of a Markdown table."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {first} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def compressed(_, item):
    """As it was once, and is not any more."""
    item.LossyImageCompression = "01"


EDITS = {2: compressed, 3: compressed, 7: lambda _, item: item.pop("RescaleSlope")}


@pytest.fixture(scope="module")
def undrawn():
    """Drawn here, other than in the other tests."""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Four patients at two times each, the second one's scans compressed with loss, the last one's second broken."""
    folder, table = tmp_path_factory.mktemp("sheet"), []
    hu = np.random.default_rng(0).integers(-1000, 300, (3, 30, 30))
    for number in range(8):
        patient, year = number // 2, number % 2
        write_series(folder / str(number), hu + number, stack(3), edit=EDITS.get(number))
        facts = {"source": "NLST" if patient else "our clinic", "licence": "CC BY 4.0" if patient else None}
        facts |= {"sct_long_dia": 8 + 3 * number, "sct_perp_dia": None, "malignant": [1, 0, 0, None][patient]}
        facts |= dict(zip("xyz", (-35.0, -25.0, 102.0), strict=True))
        split = "validation" if patient == 2 else "training"
        table.append(rows(patient_id=f"P{patient}", study_yr=year, image=str(number), split=split, **facts))
    return write_table(folder, table)


def test_the_card_says_what_the_table_says(source, tmp_path):
    build(source, tmp_path / "dataset", size=16, spacing=None)
    text = (tmp_path / "dataset" / "datasheet.md").read_text()
    taken = pd.read_csv(source)[:-1]
    assert text.startswith("# Datasheet: dataset\n") and "Research use only" in text and "SIMULATED" not in text
    assert "16 x 16 pixels in HU, each scanner's own size," in text and "can be of two sizes" in text
    assert cells(text, "NLST") == ["NLST", "CC BY 4.0", "3", "5"]
    assert cells(text, "our clinic") == ["our clinic", "not given", "1", "2"]
    assert cells(text, "training") == ["training", "2", "2", "1", "1", "0"]
    assert cells(text, "validation") == ["validation", "1", "1", "0", "1", "0"]
    assert cells(text, "unpaired") == ["unpaired", "1", "1", "0", "0", "1"]
    assert cells(text, "missing RescaleSlope") == ["missing RescaleSlope", "1"]
    diameters = cells(text, "longest diameter, mm")
    assert diameters[1] == "7 of 7" and f"median {taken['sct_long_dia'].median():g}," in diameters[2]
    assert cells(text, "perpendicular diameter, mm")[1:] == ["0 of 7", ""]
    assert cells(text, "gender")[2] == "female 100%"
    assert "median 0.6," in cells(text, "pixel spacing, mm")[2]
    assert "median 2," in cells(text, "distance of slices, mm")[2]
    assert cells(text, "days from baseline to follow-up (pairs)")[1] == "3 of 3"
    assert "median 3," in cells(text, "growth of the longest diameter from baseline to follow-up, mm (pairs)")[2]
    assert (tmp_path / "dataset" / "datasheet.png").read_bytes().startswith(b"\x89PNG")
    assert "\n2 of the 7 crops are of pixels that were compressed with loss" in text
    assert not re.search(r"\n{3}", text) and all(len(line) < 260 for line in text.splitlines())


def test_loss_is_counted(source, tmp_path):
    made = build(source, tmp_path / "dataset", size=16)
    datalist = json.loads((tmp_path / "dataset" / "datalist.json").read_text())
    (pair,) = [case for case in datalist["training"] if case["baseline"] in datalist["lossy"]]
    assert datalist["lossy"] == [pair["baseline"], pair["follow_up"]] and made.lossy == 2
    overview, said = examine(tmp_path / "dataset"), StringIO()
    print_overview(overview, Console(file=said))
    assert "compressed with loss before they were cut: training 2 of 4 crops." in said.getvalue()


def test_what_is_simulated_or_not_known_is_said(source, tmp_path):
    table = pd.read_csv(source).drop(columns=["source", "licence"])[:2]
    table.to_csv(source.with_name("two.csv"), index=False)
    build(source.with_name("two.csv"), tmp_path / "x", size=16, simulated="by a test", keep_ids=True, spacing=0.7)
    text = (tmp_path / "x" / "datasheet.md").read_text()
    assert "**SIMULATED.** by a test" in text and "columns `source` and `licence`" in text
    assert (
        "No image was unfit" in text
        and "with loss" not in text
        and "--keep-ids" in text
        and "0.7 mm each" in text
        and "brought to one size" in text
    )


def test_the_same_bytes_again(source, tmp_path):
    for name in "ab":
        build(source, tmp_path / name / "dataset", size=16, key=tmp_path / "key.json")
    for name in ("datasheet.md", "datasheet.png", "datalist.json", "failures.csv"):
        assert (tmp_path / "a" / "dataset" / name).read_bytes() == (tmp_path / "b" / "dataset" / name).read_bytes()


def test_it_is_drawn_where_nothing_is_known(source, tmp_path):
    """Of one nodule, scanned once."""
    table = pd.read_csv(source)[:1].assign(malignant=None, **dict.fromkeys(EHR))
    table.to_csv(source.with_name("one.csv"), index=False)
    build(source.with_name("one.csv"), tmp_path / "x", size=16)
    assert cells((tmp_path / "x" / "datasheet.md").read_text(), "longest diameter, mm")[1] == "0 of 1"
    assert (tmp_path / "x" / "datasheet.png").read_bytes().startswith(b"\x89PNG")
