"""No output tells whose it is: identifiers are planted wherever a site has them, and every output byte is searched."""

import gzip
import json
import re
import stat

import numpy as np
import pandas as pd
import pytest

from data_prep import cli
from data_prep.cohort import build
from data_prep.errors import DataError
from data_prep.identity import Names, open_key, write_key
from tests.data_prep.helpers import rows, stack, write_series

TAGS = {
    "PatientName": "Planted^Name",
    "PatientID": "PLANTED-MRN",
    "PatientBirthDate": "19480229",
    "PatientAddress": "Planted Street",
    "OtherPatientIDs": "PLANTED-OTHER",
    "StudyDate": "20110317",
    "SeriesDate": "20110318",
    "AcquisitionDateTime": "20110319101112",
    "AccessionNumber": "PLANTED-ACC",
    "InstitutionName": "Planted Hospital",
    "ReferringPhysicianName": "Planted^Doctor",
    "StudyInstanceUID": "1.2.777.1",
    "FrameOfReferenceUID": "1.2.777.2",
    "DeviceSerialNumber": "PLANTED-SERIAL",
}
PLANTED = [rb"(?i)planted", rb"1\.2\.777", rb"19480229", rb"2011[-/]?03", rb"(?i)smith", rb"MRN", rb"IM-secret"]


def plant(number, item):
    for tag, value in TAGS.items():
        setattr(item, tag, value)
    item.SeriesInstanceUID, item.SOPInstanceUID = "1.2.777.3", f"1.2.777.4.{number}"


@pytest.fixture
def made(tmp_path, monkeypatch, capsys):
    """A site's folder of two patients, one series that is good and some that are not, through the command line."""
    site, table = tmp_path / "site", []
    hu = np.random.default_rng(0).integers(-1000, 300, (5, 40, 40))
    for year in range(2):
        for person in range(6):
            image = f"PLANTED-MRN-{person}/2011-03-1{year}"
            paths = write_series(site / image, hu + person, stack(5), edit=plant)
            if person == 3:
                paths[2].write_bytes(paths[2].read_bytes()[:300])  # pydicom's words name what it read
            if person == 4:
                paths[2].rename(site / image / "IM-secret.dcm").write_bytes(b"PLANTED")
            table.append(
                rows(
                    patient_id=f"PLANTED-MRN-{person}",
                    nodule_id="Smith-1",
                    study_yr=year,
                    image=image,
                    **dict(zip("xyz", (-30.0, -20.0, 104.0 + 500 * (person == 5)), strict=True)),
                    study_date="2011-03-17",
                    series_uid="1.2.777.3",
                    days_from_baseline=367 * year,
                )
            )
    pd.DataFrame(table).to_csv(site / "cohort.csv", index=False)
    arguments = ["data_prep", "cohort", str(site / "cohort.csv"), "--out", str(tmp_path / "dataset"), "--size", "16"]
    monkeypatch.setattr("sys.argv", [*arguments, "--key", str(tmp_path / "safe" / "key.json")])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    shown = capsys.readouterr()
    assert not stopped.value.code, shown
    return tmp_path, shown.out + shown.err


def test_no_output_byte_tells_whose_it_is(made):
    folder, shown = made
    outputs = {path: path.read_bytes() for path in (folder / "dataset").rglob("*") if path.is_file()}
    assert len(outputs) >= 6 + 2 and (folder / "dataset" / "failures.csv") in outputs
    unpacked = {path: gzip.decompress(content) for path, content in outputs.items() if path.suffix == ".gz"}
    names = "\n".join(str(path.relative_to(folder)) for path in outputs).encode()
    for content in (names, *outputs.values(), *unpacked.values(), shown.encode()):
        for pattern in PLANTED:
            assert not re.search(pattern, content), pattern
    assert not list(folder.glob("dataset*key*"))


def test_the_key_tells_whose_each_case_is(made):
    folder, _ = made
    key = folder / "safe" / "key.json"
    cases = json.loads(key.read_text())["cases"]
    assert {case["patient_id"] for case in cases.values()} == {f"PLANTED-MRN-{number}" for number in range(6)}
    failures = pd.read_csv(folder / "dataset" / "failures.csv")
    broken = {cases[name]["patient_id"][-1] for name in failures["case"]}
    assert broken == {"3", "4", "5"} and len(failures) == 6
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_names_stay_with_the_key_and_change_without(made, tmp_path):
    folder, _ = made
    table, key = folder / "site" / "cohort.csv", folder / "safe" / "key.json"
    before = {path.name for path in (folder / "dataset" / "crops").iterdir()}
    assert build(table, folder / "dataset", size=16, key=key).written == 0
    build(table, tmp_path / "other", size=16)
    after = {path.name for path in (tmp_path / "other" / "crops").iterdir()}
    assert len(after) == len(before) == 6 and not after & before


def test_names_follow_from_the_secret_alone():
    first, second = Names("a"), Names("b")
    assert first.patient("1") == Names("a").patient("1") != second.patient("1")
    assert first.nodule("1", "2") != first.nodule("12", "") and re.fullmatch("[0-9a-f]{12}", first.patient("1"))
    assert "xyz" not in repr(Names("xyz")) and Names("").patient("P1") == "P1"


def test_keys_that_are_refused(tmp_path):
    with pytest.raises(DataError, match="would lie in the dataset"):
        open_key(tmp_path / "out" / "key.json", tmp_path / "out")
    for content in ("{", "[]", "{}", '{"secret": ""}', '{"secret": "a", "cases": []}'):
        (tmp_path / "key.json").write_text(content)
        with pytest.raises(DataError, match="key.json"):
            open_key(tmp_path / "key.json", tmp_path / "out")


def test_a_key_that_another_run_has_made_meanwhile_is_left_alone(tmp_path):
    """Its secret is all that tells whose the other's names are."""
    key = tmp_path / "key.json"
    first, second = (open_key(key, tmp_path / each) for each in ("one", "two"))
    write_key(key, first, {"a": {}})
    before = key.read_bytes()
    with pytest.raises(DataError, match=r"key\.json: another run has made it meanwhile\. Give the same command again"):
        write_key(key, second, {"b": {}})
    assert key.read_bytes() == before
    assert open_key(key, tmp_path / "two") == first and [path.name for path in tmp_path.iterdir()] == ["key.json"]


def scans(folder, *people):
    """A site's table of these people, an image each."""
    folder.mkdir()
    for person in people:
        write_series(folder / person, np.random.default_rng(0).integers(-1000, 300, (3, 40, 40)), stack(3))
    point = dict(zip("xyz", (-30.0, -20.0, 102.0), strict=True))
    pd.DataFrame([rows(patient_id=person, image=person, split="training", **point) for person in people]).to_csv(
        folder / "cohort.csv", index=False
    )
    return folder / "cohort.csv"


def test_a_key_of_several_datasets_has_the_cases_of_those_that_are_done(tmp_path):
    """One that nothing comes of leaves its secret, so that the next run goes on with the same names, and no cases."""
    key = tmp_path / "key.json"

    def people():
        content = json.loads(key.read_text())
        return content["secret"], sorted(case["patient_id"] for case in content["cases"].values())

    broken = scans(tmp_path / "a", "P1")
    [path.write_bytes(b"") for path in (tmp_path / "a" / "P1").iterdir()]
    with pytest.raises(DataError):
        build(broken, tmp_path / "first", size=16, key=key)
    secret, named = people()
    assert secret and named == []
    build(scans(tmp_path / "b", "P2"), tmp_path / "second", size=16, key=key)
    build(scans(tmp_path / "c", "P2", "P3"), tmp_path / "third", size=16, key=key)
    with pytest.raises(DataError):
        build(broken, tmp_path / "first", size=16, key=key)
    assert people() == (secret, ["P2", "P3"])
    build(scans(tmp_path / "d", "P4"), tmp_path / "fourth", size=16, key=key)
    assert people() == (secret, ["P2", "P3", "P4"]) and stat.S_IMODE(key.stat().st_mode) == 0o600
