"""Waiting for what another thread or process does."""

import time


def until(condition, timeout_s=120):
    """Returns as soon as condition() holds; fails where it does not within timeout_s seconds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"it did not come to this within {timeout_s} s"
        time.sleep(0.01)
