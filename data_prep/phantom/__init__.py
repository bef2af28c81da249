"""A simulated longitudinal screening cohort, as a hospital would have it: DICOM, trial tables, and no patient."""
