"""The converters for skl2onnx under their public name; they live in `fastbp.export.onnx`."""

from fastbp.export.onnx import register

__all__ = ["register"]
