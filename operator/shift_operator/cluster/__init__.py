"""Kubernetes: reads, server-side applies, status and Events, and the objects as last seen.

Only this package imports the Kubernetes client.
"""
