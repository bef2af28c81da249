"""The embedded example is simulated, and says so."""

import pydicom

from data_prep.single import cut_single
from deploy.page import example, reading
from scripts.ehr.features import EHR_FEATURES, validate


def test_it_is_made_once_and_its_point_shows_a_nodule(tmp_path, monkeypatch):
    whole = example.Example(tmp_path / "example")
    told = whole.copy(tmp_path / "mine")
    assert told["refused"] == "" and told["dicom"] and (tmp_path / "mine" / reading.SLICES).is_file()
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["example", "mine"]
    suggested = told["suggested"]
    assert set(validate(suggested["record"])) == set(EHR_FEATURES)
    assert cut_single(tmp_path / "mine" / told["image"], tuple(suggested["point"])).extra["point"] == "seen"
    item = pydicom.dcmread(next((tmp_path / "mine" / reading.GIVEN).iterdir()))
    assert "SIMULATED" in item.ImageComments
    monkeypatch.setattr(example, "make", None)
    assert whole.copy(tmp_path / "yours") == told
