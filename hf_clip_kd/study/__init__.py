"""
A study: a grid over teacher, student, objective, duration, data, seed and language model.

`running` turns one YAML into one JSON per cell (`recipes/study.py`). `cells` reads the JSONs. `estimates` makes
numbers with intervals of them. `report` makes tables, figures and sentences of these (`recipes/study_report.py`).
Runner and report meet only in the JSONs.
"""
