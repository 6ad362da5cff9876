"""A trained model in the forms that other tools load, each checked against the model itself."""

from .folder import FORMATS, export_model

__all__ = ["FORMATS", "export_model"]
