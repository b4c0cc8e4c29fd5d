"""Kubernetes quantities (`100m`, `2Gi`, `8`) as exact numbers. Pure."""

from __future__ import annotations

from fractions import Fraction

_FACTORS = {
    "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000), "": Fraction(1),
    "k": Fraction(10**3), "M": Fraction(10**6), "G": Fraction(10**9), "T": Fraction(10**12), "P": Fraction(10**15),
    "E": Fraction(10**18),
    "Ki": Fraction(2**10), "Mi": Fraction(2**20), "Gi": Fraction(2**30), "Ti": Fraction(2**40), "Pi": Fraction(2**50),
    "Ei": Fraction(2**60),
}  # fmt: skip


def parse(text: str | int | float) -> Fraction:
    """`"1500m"` -> 3/2. Raises ValueError naming the text."""
    written = str(text).strip()
    for suffix in sorted(_FACTORS, key=len, reverse=True):
        number = written.removesuffix(suffix) if suffix else written
        if number != written or not suffix:
            try:
                return Fraction(number) * _FACTORS[suffix]
            except (ValueError, ZeroDivisionError):
                continue
    raise ValueError(f"quantity {text!r}: not a number with an optional suffix such as m, k, Gi")
