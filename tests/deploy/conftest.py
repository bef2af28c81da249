"""The developers' real series, as data preparation's tests have them."""

from tests.data_prep.conftest import real_series, shared_data

__all__ = ["real_series", "shared_data"]
