"""Models of open_clip: loading, tokens, and conversion into stock classes."""
