"""The page in its object is the file, one page, and names no patient."""

import re


def test_the_page_is_the_file(objects):
    item = objects.read("page")
    content = (objects.case_dir / "result.pdf").read_bytes()
    assert item.EncapsulatedDocument[: item.EncapsulatedDocumentLength] == content and content[:5] == b"%PDF-"
    assert item.MIMETypeOfEncapsulatedDocument == "application/pdf" and item.Modality == "DOC"
    assert re.findall(rb"/Count (\d+)", content) == [b"1"]
    assert b"Doe" not in content and b"4711" not in content
    assert item.SourceInstanceSequence[0].ReferencedSOPInstanceUID == objects.slice().SOPInstanceUID
    assert "synthetic" in item.DocumentTitle and "-70, 0, 102 mm" in item.DocumentTitle
    assert b"nodule at -70, 0, 102 mm" in content
