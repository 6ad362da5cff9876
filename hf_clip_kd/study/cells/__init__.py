"""Cells of a study, read from its JSONs."""
