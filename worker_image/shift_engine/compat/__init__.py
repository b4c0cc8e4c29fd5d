"""What leans on vLLM's inside, and so on its version. No class of vLLM's is patched, instances are.

Beside another version nothing of it is imported: importing raises UnsupportedVllm.
"""

from shift_engine.vllm_version import check

check()  # before any module of compat asks vLLM for a name that may not be there
