"""The demo: one line through every real part, from an empty machine to a threshold that moves with the traffic."""
