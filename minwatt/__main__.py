"""`python -m minwatt`: the same as the `minwatt` command; the scaler starts replicas this way."""

from minwatt.cli import main

main()
