"""A kubelet whose containers are processes: registers nodes, runs the pods bound to them, reports as the real one."""
