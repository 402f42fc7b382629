"""Open-loop load: what arrives when, sending it, and the report of what came back."""
