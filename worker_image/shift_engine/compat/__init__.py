"""What depends on vLLM's version. Beside another one nothing of it is imported: importing raises UnsupportedVllm."""

from shift_engine.vllm_version import check

check()  # before any module of compat asks vLLM for a name that may not be there
