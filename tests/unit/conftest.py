"""Hypothesis for all unit tests: no deadline, since the machine may be busy, and no example files in the checkout."""

from hypothesis import settings

settings.register_profile("shift", deadline=None, database=None)
settings.load_profile("shift")
