"""Crops and colour changes of images, and the views that models have of them."""
