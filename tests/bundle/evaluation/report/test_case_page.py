"""The page to print of one case."""

from __future__ import annotations

from tests.bundle.evaluation.studies import make_study, run


def test_a_page_a_case(tmp_path):
    study = make_study(count=4, runs=2)
    run(study, tmp_path, case_pages=["case-02"])
    (page,) = (tmp_path / "cases").iterdir()
    content = page.read_bytes()
    assert page.name == "case-02.pdf" and content.startswith(b"%PDF") and content.count(b"/Type /Page\n") <= 1
    assert b"synthetic, research use only, not for clinical decisions" in content
    assert not any(case["patient_id"].encode() in content for case in study["cases"])
