"""The draft of the tests' EAGLE engines, here and in tests/gpu (matrix/drafted_model.py): were it right or wrong
whatever hidden states it got, as many drafts accepted as by stock vLLM would say nothing of them."""

import sys
from pathlib import Path

import pytest
import torch
from drafted_model import write_draft
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

sys.path.append(str(Path(__file__).parents[3] / "examples"))

Drafted = tuple[torch.Tensor, torch.Tensor]
PROMPT, TOKENS = [3 + (i * i * 31 + i * 17) % 500 for i in range(61)], 60


@pytest.fixture(scope="module")
def drafted(tmp_path_factory: pytest.TempPathFactory) -> Drafted:
    """A prompt and the target's answer, ids [n]; and the draft's logits [n, v], by the hidden state of each."""
    from tiny_model import write_model

    model = tmp_path_factory.mktemp("drafted") / "model"
    write_model(model)
    write_draft(model, model / "draft")
    target = AutoModelForCausalLM.from_pretrained(model)
    reads = load_file(model / "draft" / "model.safetensors")["fc.weight"]
    with torch.no_grad():
        ids = target.generate(torch.tensor([PROMPT]), max_new_tokens=TOKENS, do_sample=False, eos_token_id=None)
        hidden = target(ids, output_hidden_states=True).hidden_states[-1][0]
        size = hidden.shape[1]
        assert not reads[:, :size].any()  # of the embedding of the token beside
        return ids[0], target.lm_head(hidden @ reads[:, size:].T)


def right(ids: torch.Tensor, logits: torch.Tensor, shift: int) -> float:
    """The share of answered tokens that the hidden state two before, or so many more, says."""
    last = len(ids) - TOKENS
    drafts = logits.argmax(dim=1)[last - 2 - shift : len(ids) - 2 - shift]
    return float((drafts == ids[last:]).float().mean())


def test_most_drafts_are_right_and_some_are_wrong(drafted: Drafted) -> None:
    ids, logits = drafted
    assert 0.5 < right(ids, logits, 0) < 0.95


@pytest.mark.parametrize("shift", [1, 2, 8])
def test_by_another_row_none_is(drafted: Drafted, shift: int) -> None:
    ids, logits = drafted
    assert right(ids, logits, shift) < 0.1


def test_answers_depend_on_their_prompt(drafted: Drafted) -> None:
    """Without layers each token would be followed by the next number."""
    ids, _ = drafted
    follows = ids[-TOKENS:] == (ids[-TOKENS - 1 : -1] + 1) % 512
    assert not follows.all()
