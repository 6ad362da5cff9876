"""
Studies: grids over teacher, student, objective, duration, data, seed and language model.

One YAML becomes one JSON per cell (`recipes/study.py`), and these become a report (`recipes/study_report.py`). The two
halves meet only in the JSONs.
"""
