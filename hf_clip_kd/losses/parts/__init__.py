"""Parts that several losses share: heads, token maps, chunks and reductions."""
