"""The operator's process: kopf's watches feed a queue, `reconcile` works it off, one loop decides on all thresholds."""
