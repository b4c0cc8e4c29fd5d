"""What a ShiftProfile says of the calibration that tests use: of the fake engine, and of the unit tests' own."""

from typing import Any

GPU = "NVIDIA-H100-80GB-HBM3"
AS_A_PROFILE: dict[str, Any] = {
    "source": "Operator",
    "curves": [
        {
            "sequence": 1,
            "tensor": 2,
            "points": [{"tokens": 1, "microseconds": 2100}, {"tokens": 512, "microseconds": 12400}],
        },
        {
            "sequence": 2,
            "tensor": 1,
            "points": [{"tokens": 1, "microseconds": 4000}, {"tokens": 512, "microseconds": 10100}],
        },
    ],
    "crossoverTokens": 384,
    "kvTokens": 480_000,
}
