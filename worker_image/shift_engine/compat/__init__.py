"""What depends on vLLM's version: one module per minor version."""
