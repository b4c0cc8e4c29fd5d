"""The reference: the same prompts through stock vLLM at TP=2, without our package anywhere near it.

The lower half runs in the engine's environment (`python reference.py MODEL < prompts.json`), the upper half starts it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from demo.environment import Environment
    from demo.narration import Step
    from demo.traffic import Prompt

SECONDS = 240.0
MARK = "REFERENCE "


async def stock_tokens(prompts: Sequence[Prompt], environment: Environment, step: Step) -> dict[Prompt, list[int]]:
    """The greedy token ids of stock vLLM for each prompt."""
    from demo.commands import run

    cpu = dict(
        line.split("=", 1)
        for line in (environment.checkout / "worker_image" / "cpu.env").read_text().splitlines()
        if line.strip() and not line.startswith("#")
    )
    asked = json.dumps([[prompt.text, prompt.max_tokens] for prompt in prompts])
    output = await run(
        environment.engine_python,
        environment.checkout / "demo" / "reference.py",
        environment.model,
        part="stock vLLM",
        variables={**environment.variables(), **cpu, "VLLM_PLUGINS": ""},
        within=SECONDS,
        step=step,
        stdin=asked,
    )
    answer = next(line for line in reversed(output.splitlines()) if line.startswith(MARK))
    return dict(zip(prompts, json.loads(answer.removeprefix(MARK)), strict=True))


def main(model: str) -> None:
    from vllm import LLM, SamplingParams

    prompts = json.load(sys.stdin)
    engine = LLM(
        model,
        tensor_parallel_size=2,
        dtype="float32",
        enforce_eager=True,
        max_model_len=4096,
        max_num_batched_tokens=2048,
    )
    answers = [
        list(
            engine.generate(text, SamplingParams(temperature=0, max_tokens=n, ignore_eos=True), use_tqdm=False)[0]
            .outputs[0]
            .token_ids
        )
        for text, n in prompts
    ]
    print(MARK + json.dumps(answers), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
