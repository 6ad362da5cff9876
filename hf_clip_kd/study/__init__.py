"""
A study: a grid over teacher, student, objective, duration, data, seed and language model, from one YAML to one JSON per cell
(`recipes/study.py`), and from those to a report (`recipes/study_report.py`). The two halves meet only in the JSONs.
"""
