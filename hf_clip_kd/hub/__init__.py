"""Pushing a folder to the Hub, with its card."""
