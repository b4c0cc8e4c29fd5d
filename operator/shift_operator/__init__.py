"""The Shift Operator: it brings ShiftDeployments to life and keeps their parallelism fitted to the traffic."""

__version__ = "0.1.0"
