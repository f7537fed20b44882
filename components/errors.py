"""What the user brought is bad: the one error the CLI answers with exit status 2."""

from __future__ import annotations


class InputError(ValueError):
    """Bad data or settings. The message says what was seen, why it is wrong and what to do."""
