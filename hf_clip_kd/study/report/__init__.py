"""From the JSONs of a study to its tables, figures and findings."""
