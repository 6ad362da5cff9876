"""Functions that read any image tower: its tokens, grid and patch embeddings, and dropped patches."""
