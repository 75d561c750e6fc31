"""Datasets made of the text that is shipped with the package."""
