"""How far figures of several rounds lie apart."""

import statistics
from collections.abc import Sequence


def spread(times: Sequence[float]) -> float:
    """Distance between the quartiles, relative to the median."""
    low, middle, high = statistics.quantiles(times, n=4) if len(times) > 1 else [*times] * 3
    return (high - low) / middle
