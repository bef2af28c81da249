"""Records for the tests: one that is complete, and any."""

from __future__ import annotations

from hypothesis import strategies as st

from scripts.ehr.features import EHR_FEATURES, FEATURES

FULL = {
    "sct_pre_att": 1,
    "sct_epi_loc": 1,
    "sct_long_dia": 12,
    "sct_perp_dia": 9.5,
    "sct_margins": 1,
    "age": 62,
    "diagemph": 1,
    "gender": 1,
    "famfather": 1,
    "fammother": 0,
    "fambrother": 1,
    "famsister": 0,
    "famchild": 0,
}


def values(name: str) -> st.SearchStrategy[float]:
    """Every allowed value of a feature; continuous ones to the decimal that a report keeps."""
    feature = FEATURES[name]
    if feature.codes:
        return st.sampled_from([float(code) for code in feature.codes])
    tenths = st.integers(round(10 * feature.minimum), round(10 * feature.maximum))
    return tenths.map(lambda tenth: tenth / 10)


any_record = st.fixed_dictionaries({}, optional={name: values(name) for name in EHR_FEATURES})
full_records = st.fixed_dictionaries({name: values(name) for name in EHR_FEATURES})
