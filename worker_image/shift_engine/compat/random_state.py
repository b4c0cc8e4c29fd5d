"""vLLM 0.32's generators of random numbers: what is sampled does not depend on the steps that we add."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy
import torch
from vllm.platforms import current_platform
from vllm.utils.torch_utils import set_random_seed


def reset(vllm_config: Any) -> None:
    """As vLLM does after its own warm-up: dummy steps must not change what is sampled."""
    set_random_seed(vllm_config.model_config.seed, vllm_config.parallel_config.data_parallel_index)


@contextmanager
def unchanged() -> Iterator[None]:
    """What runs within draws nothing from the generators that requests without a seed of their own are sampled by."""
    own, numbers = random.getstate(), numpy.random.get_state()
    devices = [] if current_platform.is_cpu() else [torch.accelerator.current_device_index()]
    with torch.random.fork_rng(devices):
        yield
    random.setstate(own)
    numpy.random.set_state(numbers)
