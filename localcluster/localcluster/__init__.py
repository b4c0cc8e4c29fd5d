"""A real Kubernetes control plane on one machine: no Docker, no root, loopback only."""
