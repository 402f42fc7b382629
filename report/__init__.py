"""What every report shares: its values, its look, its three forms and what made it. Knows no component."""
