"""A kubelet whose containers are plain processes: registers nodes, runs the pods bound to them, reports as the real one does."""
