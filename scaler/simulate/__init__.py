"""The fleet in a computer: replicas, clocks and start-ups as a model, under the control of the live one."""
