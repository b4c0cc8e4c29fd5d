"""Requests of every kind at once, and a draft model: what the engine of a MixCell answers.

With so few blocks of 32 tokens the cache does not hold the requests that decode, so some are preempted and computed
again.
"""

from pathlib import Path
from typing import Any

from drafted_model import write_draft

BLOCKS = 10  # one of them is vLLM's own; the longest prompt needs seven
SCHEMA = {
    "type": "object",
    "properties": {"port": {"type": "integer", "minimum": 0, "maximum": 99}, "keeper": {"enum": ["her", "dog"]}},
    "required": ["port", "keeper"],
    "additionalProperties": False,
}
JSON = {"json": SCHEMA}


def requests(*, speculation: bool) -> dict[str, tuple[list[int], dict[str, Any]]]:
    """By kind: the prompt's token ids and the sampling parameters beside those that all share.

    The sums of prompts and of decodes are odd, and the last requests to end are fewer than the ranks. No request is
    sampled where drafts are made: beside one, vLLM 0.32's rejection sampler on CPU gives greedy requests tokens that
    are not the likeliest, stock vLLM's too and others in each run.
    """
    sampled = {"sampled": (prompt(20, 5), {"temperature": 0.8, "top_p": 0.9, "seed": 11})}
    return ({} if speculation else sampled) | {
        "one token": (prompt(1, 1), {"max_tokens": 20}),
        "in chunks": (prompt(201, 2), {"logprobs": 5}),
        "log-probabilities of the prompt": (prompt(61, 3), {"prompt_logprobs": 3}),
        "penalties": (prompt(33, 4), {"repetition_penalty": 1.3, "frequency_penalty": 0.5}),
        "a pattern again and again": (prompt(9, 6) * 7, {"max_tokens": 20}),
        "JSON": (prompt(7, 7), {"structured_outputs": JSON, "ignore_eos": False, "max_tokens": 40}),
        "a choice": (prompt(12, 8), {"structured_outputs": {"choice": ["fog", "morning"]}, "ignore_eos": False}),
        "ends in a new block": (prompt(58, 9), {}),
        "ends in one too": (prompt(59, 10), {}),
    }


def answer(llm: Any) -> dict[str, Any]:
    """Every request at once from an empty cache, then one alone and again, which finds its prompt in the cache.

    -> by kind tokens, text and log-probabilities; how often vLLM preempted, proposed and accepted meanwhile.
    """
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    def parameters(own: dict[str, Any]) -> Any:
        own = {"temperature": 0, "max_tokens": 12, "ignore_eos": True, "logprobs": 1} | own
        if "structured_outputs" in own:
            own["structured_outputs"] = StructuredOutputsParams(**own["structured_outputs"])
        return SamplingParams(**own)

    llm.reset_prefix_cache()
    before = counts(llm)
    wanted = requests(speculation=llm.llm_engine.vllm_config.speculative_config is not None)
    answers = {}
    for kinds, suffix in ((tuple(wanted), ""), (("in chunks",), ", alone"), (("in chunks",), ", again")):
        prompts = [{"prompt_token_ids": wanted[kind][0]} for kind in kinds]
        outputs = llm.generate(prompts, [parameters(wanted[kind][1]) for kind in kinds], use_tqdm=False)
        answers |= {kind + suffix: _said(output) for kind, output in zip(kinds, outputs, strict=True)}
    return {"answers": answers, "counts": counts_since(llm, before)}


def speculation(kind: str, draft_tokens: int, target: Path) -> dict[str, Any]:
    """vLLM's option of that kind, with so many drafts for a request in a step. For EAGLE the model at `target`
    becomes one that can be drafted, and a draft is made beside it."""
    if kind == "no":
        return {}
    config: dict[str, Any] = {"num_speculative_tokens": draft_tokens}
    if kind == "n-gram":
        return {"speculative_config": config | {"method": "ngram", "prompt_lookup_max": 3, "prompt_lookup_min": 1}}
    draft = target / "draft"
    write_draft(target, draft)
    return {"speculative_config": config | {"method": "eagle", "model": str(draft)}}


def prompt(tokens: int, seed: int) -> list[int]:
    """Token ids that look random and are always the same; other ones from the first on for each seed of 0 to 499."""
    return [3 + (seed * 7919 + i * i * 31 + i * 17) % 500 for i in range(tokens)]


def _said(output: Any) -> dict[str, Any]:
    completion = output.outputs[0]
    said = {
        "tokens": list(completion.token_ids),
        "text": completion.text,
        "logprobs": _by_token(completion.logprobs),
        "cached tokens": output.num_cached_tokens,
    }
    return said | ({"prompt logprobs": _by_token(output.prompt_logprobs[1:])} if output.prompt_logprobs else {})


def _by_token(positions: Any) -> list[dict[str, float]]:
    return [{str(token): each.logprob for token, each in position.items()} for position in positions]


def counts(llm: Any) -> dict[str, int]:
    """How often vLLM preempted, proposed and accepted so far."""
    names = {
        "vllm:num_preemptions": "preempted",
        "vllm:spec_decode_num_draft_tokens": "drafted",
        "vllm:spec_decode_num_accepted_tokens": "accepted",
    }
    return {names[metric.name]: metric.value for metric in llm.get_metrics() if metric.name in names}


def counts_since(llm: Any, before: dict[str, int]) -> dict[str, int]:
    """The same, since `before`."""
    return {name: value - before.get(name, 0) for name, value in counts(llm).items()}
