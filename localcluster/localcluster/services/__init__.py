"""Services with loopback cluster IPs: what kube-proxy does with the kernel, done with sockets."""
