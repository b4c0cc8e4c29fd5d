"""The prompts of tests/gpu: where two tokens are nearly level rounding decides between them, and a session in which all
is right would say WRONG once in a while. By transformers, in fp32 on CPU."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from batches import (
    DECODE_PROMPT,
    DECODE_SEEDS,
    DECODED_TOKENS,
    DECODES_AT_ONCE,
    LEAD,
    LENGTHS,
    LENGTHS_AROUND,
    OUTPUT_TOKENS,
    prompt_of,
)
from case import EAGLE, LLAMA, MOE
from kinds_of_request import prompt
from transformers import AutoModelForCausalLM

sys.path.append(str(Path(__file__).parents[3] / "examples"))

PROMPTS = [(prompt_of(length), OUTPUT_TOKENS) for length in LENGTHS]
PROMPTS_AROUND = [(prompt_of(length), 2) for length in LENGTHS_AROUND]
DECODES = [(prompt(DECODE_PROMPT, seed), DECODED_TOKENS) for seed in DECODE_SEEDS]

pytestmark = pytest.mark.full


@pytest.mark.parametrize(
    ("kind", "asked"),
    [*((kind, [*PROMPTS, *PROMPTS_AROUND]) for kind in (LLAMA, EAGLE, MOE)), (LLAMA, DECODES)],
    ids=["llama", "eagle", "qwen3_moe", "llama, decodes"],
)
def test_each_token_leads(tmp_path: Path, kind: str, asked: list[tuple[list[int], int]]) -> None:
    from write_model import main as write

    write(kind, tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert min(lead(model, ids, tokens) for ids, tokens in asked) >= LEAD


def test_each_decode_has_a_prompt_of_its_own() -> None:
    assert len(set(DECODE_SEEDS)) == sum(DECODES_AT_ONCE)


def lead(model: Any, ids: list[int], tokens: int) -> float:
    """How far the greedy token is ahead of the next likely one, the least of so many after the prompt."""
    with torch.no_grad():
        answered = model.generate(torch.tensor([ids]), max_new_tokens=tokens, do_sample=False, eos_token_id=None)
        likely = torch.log_softmax(model(answered).logits[0, len(ids) - 1 : -1].float(), dim=-1).topk(2).values
    return float((likely[:, 0] - likely[:, 1]).min())
