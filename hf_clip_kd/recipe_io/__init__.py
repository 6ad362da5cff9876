"""Arguments that a recipe reads, and result files that it writes."""
