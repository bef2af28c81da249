"""Codes of our own are the same where a request asks and where its result answers."""

from deploy.dicom_out.scheme import INTERVAL, SCHEME, own_code
from deploy.dicom_out.write import quiet
from deploy.request_sr import make_request_sr
from tests.deploy.scans import POINT, RECORD


def test_a_code_is_of_the_scheme():
    code = own_code(*INTERVAL)
    assert (code.value, code.scheme_designator, code.meaning) == ("interval_days", SCHEME, "Days to the follow-up")


def test_the_interval_is_coded_alike_in_a_request_and_in_a_report(objects):
    def coded(item):
        for each in item.get("ContentSequence", []):
            (name,) = each.ConceptNameCodeSequence
            if name.CodeValue == INTERVAL[0]:
                yield (name.CodingSchemeDesignator, name.CodeMeaning, each.MeasuredValueSequence[0].NumericValue)
            yield from coded(each)

    with quiet():
        request = make_request_sr(objects.slice(), POINT, RECORD, 365)
    assert [*coded(request)] == [*coded(objects.read("report"))] == [(SCHEME, "Days to the follow-up", 365)]
