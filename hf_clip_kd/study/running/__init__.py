"""The runner of a study: its YAML becomes stages that run, and one JSON for each cell."""
