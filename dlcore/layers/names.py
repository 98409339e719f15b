"""Automatic names of layers: dense, dense_1, dense_2, ..."""

_counts = {}  # snake-case class name -> how many layers took a name from it


def next_number(prefix):
    """0, 1, 2, ... for each prefix."""
    n = _counts[prefix] = _counts.get(prefix, -1) + 1
    return n


def automatic_name(prefix):
    """dense, dense_1, dense_2, ..."""
    n = next_number(prefix)
    return f"{prefix}_{n}" if n else prefix


def reset_names():
    """Start automatic names anew (`utils.clear_session`)."""
    _counts.clear()
