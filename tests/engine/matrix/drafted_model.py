"""A tiny Llama and an EAGLE draft that is mostly right about it, as long as it is given the right hidden states.

Drafts of random models are wrong, so an engine that handed a draft model other hidden states would make as many steps.
Here a rotation R takes the embedding of each token to that of the next: e[v] = R^v e[0]. The output layer has e[v - 1]
for token v, so that without layers v + 1 follows v. From the hidden state h of a token the draft says what follows the
next one by R h alone, without the embedding that it is given beside. The layers add to h what they find in the context:
enough that an answer depends on its prompt, and that some drafts are wrong.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

LAYERS_WEIGHT = 0.45  # of what a layer adds, beside a layer of random weights
LOGITS_WEIGHT = 0.1  # of the output layer, as a random one's is: rounding then moves logits as far
ADDS = ("o_proj.weight", "down_proj.weight")  # the end of what a layer adds


def write_draft(target: Path, directory: Path) -> None:
    """Change the tiny Llama at `target` so that drafts can be right, and write the draft to `directory`."""
    weights = load_file(target / "model.safetensors")
    embedding = weights["model.embed_tokens.weight"]
    turn = rotation(embedding.shape[1])
    rows = [torch.ones(embedding.shape[1], dtype=turn.dtype)]
    for _ in range(embedding.shape[0] - 1):
        rows.append(turn @ rows[-1])
    embeddings = torch.stack(rows)
    weights["model.embed_tokens.weight"] = embeddings.to(embedding)
    logits = LOGITS_WEIGHT * embeddings @ turn  # R^-1 e[v], as R^-1 is R transposed
    weights["lm_head.weight"] = logits.to(embedding)
    draft = {}
    for name, weight in weights.items():
        if name.endswith(ADDS):
            weight.mul_(LAYERS_WEIGHT)
        if name.startswith("model.layers.0.") and not name.endswith("input_layernorm.weight"):  # a draft has none
            draft[name.removeprefix("model.")] = torch.zeros_like(weight) if name.endswith(ADDS) else weight
    draft["fc.weight"] = torch.cat([torch.zeros_like(turn), turn], dim=1).to(embedding)
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    directory.mkdir()
    save_file(draft, directory / "model.safetensors")
    config = json.loads((target / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))


def rotation(size: int) -> torch.Tensor:
    """[size, size], orthogonal and always the same: each plane of a random basis turns by an angle of its own."""
    noise = torch.Generator().manual_seed(5)
    basis, _ = torch.linalg.qr(torch.randn(size, size, generator=noise, dtype=torch.float64))
    turned = torch.zeros_like(basis)
    for plane, angle in enumerate(torch.rand(size // 2, generator=noise, dtype=torch.float64) * 2 * torch.pi):
        one, other = 2 * plane, 2 * plane + 1
        turned[one, one] = turned[other, other] = angle.cos()
        turned[other, one], turned[one, other] = angle.sin(), -angle.sin()
    return basis @ turned @ basis.T
