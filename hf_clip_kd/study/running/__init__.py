"""From the YAML of a study to stages that run, and to one JSON for each cell."""
