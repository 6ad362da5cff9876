"""Crops and colours of an image, and the view that a model has of it."""
