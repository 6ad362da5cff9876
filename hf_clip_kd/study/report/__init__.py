"""Report of a study, made from its JSONs: tables, figures and findings."""
