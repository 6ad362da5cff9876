"""Estimates made of cells, each with its interval: differences, slopes, shares and the quality of the meter."""
