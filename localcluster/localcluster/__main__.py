"""`python -m localcluster`: the same as the `localcluster` command."""

from localcluster.cli import main

main()
