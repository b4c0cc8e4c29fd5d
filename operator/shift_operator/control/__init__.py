"""Pure decisions: signals, the current state and the user's bounds in; a decision with its reasons out.

No I/O and no clock of its own, so that a simulator replays a week of traffic through the very code that runs a cluster.
"""
