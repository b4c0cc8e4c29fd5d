"""An engine of two ranks that builds 2x1 while it serves: build_with_a_lonely_rank.py MODEL, run by warm.py"""

import os
import sys


def main() -> None:
    """The process. It prints what the engine answers, or ends with the engine's error."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    import torch
    from vllm import LLM, SamplingParams

    torch.compiler.set_stance("force_eager")
    llm = LLM(
        sys.argv[1],
        tensor_parallel_size=2,
        distributed_executor_backend="mp",
        enforce_eager=True,
        dtype="float32",
        max_model_len=256,
        num_gpu_blocks_override=32,
        worker_cls="faulty_worker.LonelyShiftWorker",
        additional_config={"shift_parallel": {"degree": "1x2"}},
    )
    llm.generate("before", SamplingParams(max_tokens=4), use_tqdm=False)
    print("it serves", flush=True)
    print("built:", llm.collective_rpc("shift_build", args=(2,)), flush=True)


if __name__ == "__main__":
    main()
