"""Planning: what a ShiftDeployment needs in the cluster, and what its state there means. Pure, no I/O, no clock."""
