"""What all ranks of a replica come to know together, over the CPU: gloo on every platform."""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from vllm import envs
from vllm.distributed import parallel_state

logger = logging.getLogger("vllm.shift_engine.agreement")


def agree(values: list[float]) -> list[float]:
    """Collective. The largest of each value over all ranks of the replica: a step takes as long as its slowest rank."""
    tensor = torch.tensor(values, dtype=torch.float64)
    torch.distributed.all_reduce(tensor, op=torch.distributed.ReduceOp.MAX, group=_replica().cpu_group)
    return [float(value) for value in tensor]


def first_of_ranks(own: Any) -> Any:
    """Collective. What the lowest rank of the replica has that has something, None where none has.

    A rank that has something may have left a collective in which the others still are. They would never come here, no
    step would run any more, and nothing would say so. So where they have not come for as long as vLLM waits for a step
    (VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS), this process ends, and vLLM ends the engine with it.
    """
    found: list[Any] = [None] * _replica().world_size
    with nullcontext() if own is None else _ends_alone(own):
        torch.distributed.all_gather_object(found, own, group=_replica().cpu_group)
    return next((each for each in found if each is not None), None)


@contextmanager
def _ends_alone(own: Any) -> Iterator[None]:
    """The process ends where the others do not come, or meet this one from another collective."""

    def end() -> None:
        logger.critical("this rank failed alone, and the others wait for it in a collective: %s", own)
        os._exit(1)

    timer = threading.Timer(envs.VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except Exception:
        end()
    finally:
        timer.cancel()


def _replica() -> Any:
    """The coordinator of the group of all ranks."""
    return parallel_state.get_tp_group()
