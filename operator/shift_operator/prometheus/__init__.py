"""The one place that talks to Prometheus: one query for the whole cluster, answered as typed signals per deployment."""
