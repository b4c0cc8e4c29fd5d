"""What the overlay adds to a layer on one GPU: packing for the all-to-alls, and GEMMs on weights that are views.

    PYTHONPATH=worker_image python3 benchmarks/engine_kernels.py [--out TABLE.md] [--quick]

Needs one NVIDIA GPU, torch and Triton; not vLLM. Every kernel is first compared with its reference in
`shift_engine.packing`, bit for bit; then timed, replayed from a CUDA graph. The floor is what the same bytes, each
read and written once, would take at the bandwidth of a copy of 1 GiB; what fits into the L2 cache can be faster.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from shift_engine import packing, packing_kernels
from shift_engine.degree import Degree
from shift_engine.placement import HeadPlacement, place_heads
from torch import Tensor
from torch.nn.functional import linear
from triton.testing import do_bench_cudagraph

MODELS = {"8B": (4096, 14336, 32, 8), "70B": (8192, 28672, 64, 8)}  # hidden, intermediate, query heads, KV heads
HEAD_SIZE = 128
GPUS = (2, 4, 8)
TOKENS = (512, 2048, 8192, 16384)
SAMPLES_MS = 40
PAIRS = 3  # of a view's time and a copy's, one after the other
COLD_BYTES = 2**29  # of weights in a run: some times the L2 cache, also of the last of 8 GPUs' shards
ROWS_TO_CHECK = (1, 2, 5, 61, 256, 1000)


def microseconds(run: Callable[[], object]) -> float:
    """The median time of `run` in a CUDA graph."""
    for _ in range(3):
        run()
    torch.cuda.synchronize()
    return float(do_bench_cudagraph(run, rep=SAMPLES_MS)) * 1e3


def bandwidth() -> float:
    """Bytes per microsecond, read and written, of a copy of 1 GiB."""
    source = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.nbytes / microseconds(partial(target.copy_, source))


def projection(rows: int, heads: HeadPlacement) -> tuple[Tensor, Tensor, Tensor]:
    """q, k and v as views of one QKV projection's output."""
    widths = [heads.base_query * HEAD_SIZE, heads.base_kv * HEAD_SIZE, heads.base_kv * HEAD_SIZE]
    whole = torch.randn(rows, sum(widths), device="cuda", dtype=torch.bfloat16)
    q, k, v = (part.view(rows, -1, HEAD_SIZE) for part in whole.split(widths, dim=1))
    return q, k, v


def check() -> str:
    """Compare the kernels with their references. -> a sentence. Raises AssertionError."""
    compared = 0
    for _, _, query, kv in MODELS.values():
        for degree in (Degree(2, 1), Degree(4, 1), Degree(8, 1), Degree(2, 4), Degree(4, 2)):
            heads = place_heads(query, kv, degree)
            for m in ROWS_TO_CHECK:
                q, k, v = projection(m, heads)
                assert torch.equal(packing_kernels.pack_heads(q, k, v, heads), packing.pack_heads(q, k, v, heads))
                for present in {0, m - 1, m}:
                    received = torch.randn(
                        degree.sequence, present, heads.host_query * HEAD_SIZE, device="cuda", dtype=torch.bfloat16
                    )
                    ours, wanted = (
                        torch.full((m, heads.base_query * HEAD_SIZE), torch.nan, device="cuda", dtype=torch.bfloat16)
                        for _ in range(2)
                    )
                    packing_kernels.unpack_rows(received, ours)
                    packing.unpack_rows(received, wanted)
                    assert torch.equal(ours, wanted)
                    compared += 1
    return f"Kernels equal their references bit for bit in {compared} cases."


def packing_table(bytes_per_us: float, tokens: tuple[int, ...]) -> list[str]:
    """Lines of a table: pack and unpack of one layer on one rank."""
    lines = [
        "| model | P | tokens | pack: floor, us | torch | Triton | / floor "
        "| unpack: floor, us | torch | Triton | / floor |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for model, (_, _, query, kv) in MODELS.items():
        for gpus in GPUS:
            heads = place_heads(query, kv, Degree(gpus, 1))
            for n in tokens:
                q, k, v = projection(n // gpus, heads)
                sent = packing.pack_heads(q, k, v, heads)
                received = torch.randn(gpus, n // gpus, heads.host_query * HEAD_SIZE, device="cuda", dtype=sent.dtype)
                output = torch.empty(n // gpus, query * HEAD_SIZE, device="cuda", dtype=sent.dtype)
                cells: list[str] = []
                for moved, by_torch, by_triton in (
                    (
                        sent.nbytes,
                        partial(packing.pack_heads, q, k, v, heads),
                        partial(packing_kernels.pack_heads, q, k, v, heads),
                    ),
                    (
                        output.nbytes,
                        partial(packing.unpack_rows, received, output),
                        partial(packing_kernels.unpack_rows, received, output),
                    ),
                ):
                    floor, reference, kernel = 2 * moved / bytes_per_us, microseconds(by_torch), microseconds(by_triton)
                    cells += [f"{floor:.1f}", f"{reference:.1f}", f"{kernel:.1f}", f"{kernel / floor:.2f}"]
                lines.append(f"| {model} | {gpus} | {n} | {' | '.join(cells)} |")
                print(lines[-1], flush=True)
    return lines


def view_table(tokens: tuple[int, ...], each_gpus: tuple[int, ...]) -> list[str]:
    """Lines of a table: a row-parallel GEMM on a shard that is a view, against a contiguous copy of it.

    Each run goes through the weights of so many layers that none is left in the L2 cache from the run before, as the
    layers of a model do.
    """
    lines = [
        "| model | layer | P | view / copy at " + ", ".join(map(str, tokens)) + " tokens | bits |",
        "|---|---|---|---|---|",
    ]
    for model, (hidden, intermediate, query, _) in MODELS.items():
        for layer, columns in (("down", intermediate), ("o", query * HEAD_SIZE)):
            count = -(-COLD_BYTES // (hidden * columns * 2))
            whole = [torch.randn(hidden, columns, device="cuda", dtype=torch.bfloat16) * 0.02 for _ in range(count)]
            for gpus in each_gpus:
                views = [each.chunk(gpus, dim=1)[gpus - 1] for each in whole]
                copies = [each.contiguous() for each in views]
                ratios, equal = [], True
                for n in tokens:
                    x = torch.randn(n, views[0].shape[1], device="cuda", dtype=torch.bfloat16)
                    equal &= torch.equal(linear(x, views[0]), linear(x, copies[0]))
                    pairs = [
                        (microseconds(partial(_through, x, views)), microseconds(partial(_through, x, copies)))
                        for _ in range(PAIRS)
                    ]
                    ratios.append(f"{statistics.median(view / copy for view, copy in pairs):.3f}")
                lines.append(f"| {model} | {layer} | {gpus} | {', '.join(ratios)} | {'equal' if equal else 'differ'} |")
                print(lines[-1], flush=True)
    return lines


def _through(x: Tensor, weights: Sequence[Tensor]) -> None:
    for weight in weights:
        linear(x, weight)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Time the overlay's kernels on one GPU.")
    parser.add_argument("--out", type=Path, help="write the tables to this file as well")
    parser.add_argument("--quick", action="store_true", help="one size per model and P, views at P=2")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("This benchmark times GPU kernels and needs one NVIDIA GPU; there is none here.", file=sys.stderr)
        return 1
    torch.manual_seed(0)
    said = check()
    print(said, flush=True)
    rate = bandwidth()
    head = f"{torch.cuda.get_device_name()}, torch {torch.__version__}, copy bandwidth {rate / 1e6:.2f} TB/s. {said}"
    sizes, each_gpus = ((8192,), GPUS[:1]) if options.quick else (TOKENS, GPUS)
    report = [head, "", *packing_table(rate, sizes), "", *view_table((1, 64, 8192), each_gpus)]
    if options.out:
        options.out.write_text("\n".join(report) + "\n")
    print(head)
    return 0


if __name__ == "__main__":
    sys.exit(main())
