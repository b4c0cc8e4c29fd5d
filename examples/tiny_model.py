"""Write a tiny random model with a real tokenizer: python examples/tiny_model.py DIR [--family qwen3] ...

It says nothing sensible, but always the same: fixed seed, fp32 weights, a byte-level BPE tokenizer trained on the text
below, a chat template. Large enough that a prefill of 2048 tokens takes visibly longer than a decode step, small enough
to load in a second. Needs torch, transformers and tokenizers (the engine's environment).
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedTokenizerFast

TEXT = """
A replica serves a model on a few GPUs. Each step of its engine batches the tokens of many requests: the next token of
those that decode, and a chunk of the prompts of those that have just arrived. Small steps want the weights split, large
steps want the tokens split. A threshold between the two decides, and an operator moves the threshold with the traffic.
When the queue grows, replicas are added; when the night comes, they are drained and their nodes go back to the pool.
The kubelet asks the engine whether it is alive, the service sends it requests, the scheduler finds it a node with free
GPUs. Nothing is stopped before what replaces it is ready, and no request is lost on the way.
Please write a short story about a lighthouse keeper, her dog, and the ship that came back in the morning fog.
Question: how many tokens fit into one step? Answer: as many as the largest batch that memory and patience allow.
The quick brown fox jumps over the lazy dog. 0 1 2 3 4 5 6 7 8 9 10 100 1000 one two three four five six seven.
"""

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Family:
    """A model architecture, by what its configuration has beside the sizes that all share."""

    model_type: str  # of Hugging Face
    head_size: int | None = None  # None: hidden / heads
    extra: Mapping[str, Any] = field(default_factory=dict)


FAMILIES = {
    "llama": Family("llama"),
    "qwen2": Family("qwen2"),  # biases on query, key and value
    "qwen3": Family("qwen3", head_size=48),  # norms on each head of query and key
    "gemma": Family(
        "gemma", head_size=64, extra={"tie_word_embeddings": True, "hidden_activation": "gelu_pytorch_tanh"}
    ),
    "mixtral": Family("mixtral", extra={"num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen3_moe": Family(
        "qwen3_moe",
        head_size=48,
        extra={"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 128, "norm_topk_prob": True},
    ),
    "deepseek_v2": Family(  # latent attention; all layers dense
        "deepseek_v2",
        extra={
            **{"kv_lora_rank": 512, "q_lora_rank": None, "qk_nope_head_dim": 32, "qk_rope_head_dim": 64},
            **{"v_head_dim": 32, "first_k_dense_replace": 99, "n_routed_experts": 4, "num_experts_per_tok": 2},
        },
    ),
    "mamba": Family("mamba", extra={"intermediate_size": 512}),
}


def train_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer: any text is tokens, and tokens are text again."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT.splitlines(), trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def write_model(
    directory: Path,
    *,
    family: str = "llama",
    hidden: int = 256,
    layers: int = 4,
    heads: int = 8,
    kv_heads: int = 4,
    vocabulary: int = 512,
    positions: int = 4096,
    seed: int = 7,
) -> None:
    """Write config, weights and tokenizer in Hugging Face's layout to `directory`."""
    tokenizer = train_tokenizer(vocabulary)
    kind = FAMILIES[family]
    shared = {
        "hidden_size": hidden,
        "intermediate_size": hidden * 3,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
        "max_position_embeddings": positions,
        "initializer_range": 0.1,  # wide enough that greedy tokens differ by prompt
        "tie_word_embeddings": False,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if kind.head_size is not None:
        shared["head_dim"] = kind.head_size
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind.model_type](**shared | kind.extra)).to(torch.float32)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):  # made as zeros, which would prove nothing
            torch.nn.init.normal_(parameter, std=0.1)
        elif name.endswith(("q_norm.weight", "k_norm.weight")):  # made as ones
            torch.nn.init.normal_(parameter, mean=1.0, std=0.2)
        elif family == "gemma" and name.endswith("embed_tokens.weight"):  # else each token is followed by itself
            parameter.data.mul_(0.2)
    directory.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(directory, safe_serialization=True)
    tokenizer.save_pretrained(directory)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write a tiny random model with a real tokenizer.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--family", choices=FAMILIES, default="llama")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--kv-heads", type=int, default=4)
    parser.add_argument("--vocabulary", type=int, default=512, help="at least 260: all bytes and the special tokens")
    parser.add_argument("--positions", type=int, default=4096)
    parser.add_argument("--seed", type=int, default=7)
    options = vars(parser.parse_args())
    write_model(options.pop("directory"), **options)


if __name__ == "__main__":
    main()
