"""Table 8 of the paper: one choice changed at a time."""
