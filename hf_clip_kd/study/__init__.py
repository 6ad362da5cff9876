"""
A study: a grid over teacher, student, objective, duration, data, seed and language model.

`running` turns one YAML into one JSON per cell (`recipes/study.py`). `report` turns the JSONs into a report
(`recipes/study_report.py`). The two halves meet only in the JSONs.
"""
