"""From a hospital's tables and scans to the dataset folder that the bundle reads; `python -m data_prep --help`."""
