"""What the answers to requests of every kind must be, beside stock vLLM's. Pure."""

from collections.abc import Iterator

from alike import Said, distance, pairs

SAME = 0.75  # of 12 answers with some 170 tokens, and no prompt chosen so that no two tokens are nearly level
PROMPT, PROMPT_TOKENS = "log-probabilities of the prompt", 60  # those that follow another
AGAIN = "in chunks, again"
CHOICE, CHOICES = "a choice", ("fog", "morning")
JSON, IN_JSON = "JSON", '"port":'

Position = dict[str, float]  # log-probabilities by token


def kinds_beside(said: Said, stock: Said, bound: float) -> Iterator[str]:
    """-> a sentence for each thing that is not as it must be; log-probabilities may be so far apart."""
    if said["kinds"] != stock["kinds"]:
        yield f"the kinds are {said['kinds']}, and {stock['kinds']} of stock vLLM"
        return
    answers = dict(zip(said["kinds"], pairs(said, stock), strict=True))
    other = [kind for kind, pair in answers.items() if not pair.is_same]
    if len(other) > (1 - SAME) * len(answers):
        yield f"the tokens of {', '.join(other)} are not stock vLLM's, where rounding leaves {SAME:.0%}"
    for kind, pair in answers.items():
        # Penalties, a grammar and chance have their say in which token it is, so the first that differs may be far.
        ours, theirs = said["answers"][kind], stock["answers"][kind]
        of_answer = _apart(ours["logprobs"][: pair.equal], theirs["logprobs"][: pair.equal])
        of_prompt = _apart(ours.get("prompt logprobs", []), theirs.get("prompt logprobs", []))
        if (apart := max(pair.apart(pair.equal), of_answer, of_prompt)) > bound:
            yield f"{kind}: log-probabilities are up to {apart:.1e} apart, where rounding explains {bound:.1e}"
    for whose, each in (("", said), ("stock vLLM's ", stock)):
        yield from (f"{whose}{missing}" for missing in _missing(each))


def _apart(ours: list[Position], theirs: list[Position]) -> float:
    """At most, of the tokens that both name: two that are nearly level may change places in a list of the likeliest."""
    both = [
        (here[token], there[token])
        for here, there in zip(ours, theirs, strict=False)
        for token in here.keys() & there.keys()
    ]
    return max((distance(one, other) for one, other in both), default=0.0)


def _missing(said: Said) -> Iterator[str]:
    """What the batch is for and has not done."""
    answers = said["answers"]
    if not said["counts"].get("preempted"):
        yield "batch preempted no request"
    if not answers[AGAIN]["cached tokens"]:
        yield "batch found no prompt in the cache"
    if (found := len(answers[PROMPT].get("prompt logprobs", []))) != PROMPT_TOKENS:
        yield f"batch has log-probabilities of {found} tokens of a prompt of {PROMPT_TOKENS}"
    if answers[CHOICE]["text"] not in CHOICES:
        yield f"choice is {answers[CHOICE]['text']!r}, none of {', '.join(CHOICES)}"
    if IN_JSON not in answers[JSON]["text"]:
        yield f"JSON is {answers[JSON]['text']!r}, which has no {IN_JSON}"
