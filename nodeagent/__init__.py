"""The node agent: the only privileged part.

Holds GPU clocks and power limits for others as leases that end by themselves, and reads watts for who can't.

Start at `leases` (who holds what, pure), `keeper` (what that means for the cards) and `server` (the socket).
"""
