"""Models in files that hold no code: a way out, and in."""

from fastbp.saving.models import load, save

__all__ = ["load", "save"]
