"""A simulated longitudinal screening cohort: DICOM and trial tables as a hospital has them, but of no real patient."""
