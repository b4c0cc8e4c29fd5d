"""Shift Parallelism for vLLM: stock tensor parallelism plus a sequence-parallel overlay, switched per engine step."""

__version__ = "0.1.0"
