"""Readers of files with images and captions, as rows."""
