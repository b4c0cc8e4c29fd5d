"""The reference: the same prompts through stock vLLM at TP=2, with none of our code loaded.

The lower half runs in the engine's environment (`python reference.py MODEL < prompts.json`), the upper half starts it.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from demo.environment import Environment
    from demo.narration import Step
    from demo.traffic import Prompt

SECONDS = 240.0
MARK = "REFERENCE "


async def stock_tokens(prompts: Sequence[Prompt], environment: Environment, step: Step) -> dict[Prompt, list[int]]:
    """The greedy token ids of stock vLLM for each prompt. One run per model, prompts and vLLM serves all demos."""
    from localcluster.kubelet.images import Images

    from demo.commands import run

    kept = environment.cache / "reference" / f"{_digest(prompts, environment)}.json"
    if kept.exists():
        return dict(zip(prompts, json.loads(kept.read_text()), strict=True))
    variables = environment.variables()
    image = Images(environment.images, variables).find(environment.engine_image)
    asked = json.dumps([[prompt.text, prompt.max_tokens] for prompt in prompts])
    output = await run(
        environment.engine_python,
        environment.checkout / "demo" / "reference.py",
        environment.model,
        part="stock vLLM",
        variables={**variables, **image.env, "VLLM_PLUGINS": "", "HOME": str(environment.work)},
        within=SECONDS,
        step=step,
        stdin=asked,
    )
    answer = next(line for line in reversed(output.splitlines()) if line.startswith(MARK))
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(answer.removeprefix(MARK))
    return dict(zip(prompts, json.loads(kept.read_text()), strict=True))


def _digest(prompts: Sequence[Prompt], environment: Environment) -> str:
    """What the reference depends on: the prompts, the model's files, the locked vLLM and this module."""
    digest = hashlib.sha256(json.dumps([[prompt.text, prompt.max_tokens] for prompt in prompts]).encode())
    lock = environment.checkout / "worker_image" / "requirements-cpu.txt"
    for path in [*sorted(environment.model.iterdir()), lock, Path(__file__)]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


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
