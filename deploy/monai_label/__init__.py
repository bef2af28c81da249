"""MONAI Label with one inference of our own: a point and a record in a CT that was uploaded. ``make label``."""
