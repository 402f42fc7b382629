"""The `minwatt model` commands, a file each: parse, call, print."""
