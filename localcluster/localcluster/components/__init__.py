"""The cluster's programs, a module each: the flags it runs with and how it says that it is ready."""
