"""NLST: from the trial's tables, a source of coordinates and the series that there are, to the cohort table."""
