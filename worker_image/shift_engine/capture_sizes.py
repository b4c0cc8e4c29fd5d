"""Which steps are captured as CUDA graphs: of an overlay, and with SP = 1 the host's with prefills. Pure."""

MAX_ROWS = 2048
"""Rows per rank above which a step is not captured: its kernels take longer than launching them."""
FINEST = 32


def capture_sizes(sequence: int, max_tokens: int) -> tuple[int, ...]:
    """The numbers of batched tokens n to capture for SP = `sequence`, ascending; each is a multiple of SP.

    A step replays the next larger graph, so sizes are 32 rows per rank apart, from 256 rows on an eighth of the size:
    more than that padding never costs. The largest is `max_tokens`, the size of most steps of a busy engine, or as near
    as SP and MAX_ROWS let it be.
    """
    largest = min(max_tokens // sequence, MAX_ROWS)
    sizes, rows = [], 0
    while rows < largest:
        rows = min(rows + max(FINEST, 2 ** (rows.bit_length() - 1) // 8 if rows else 0), largest)
        sizes.append(rows * sequence)
    return tuple(sizes)
