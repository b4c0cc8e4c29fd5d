"""Hypothesis for all unit tests: no deadline, since the machine may be busy, and no example files in the checkout.

`make test-unit` tries the same examples each time, so that it fails only for a change; `make fuzz` looks for new ones.
"""

from hypothesis import settings

settings.register_profile("shift", deadline=None, database=None, derandomize=True)
settings.register_profile("fuzz", deadline=None, database=None, max_examples=1000)
settings.load_profile("shift")
