"""What a person sees of a run: a line when a component starts, a line of what came out when it ends.

TFX, Beam and TensorFlow write tens of thousands of characters; all of that goes to the run's log file.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pathlib
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import TextIO

LOGGER = logging.getLogger("movierec")
_STEP = re.compile(r"Component (\S+) is (running|finished)\.")


@contextlib.contextmanager
def logged_to(log_path: pathlib.Path) -> Iterator[TextIO]:
    """Sends all logging, warnings and whatever native code writes to stderr into a file; yields the real stderr.

    Messages of the `movierec` loggers are shown too.
    """
    sys.stderr.flush()
    screen = os.fdopen(os.dup(2), "w", buffering=1)
    root, level = logging.getLogger(), logging.getLogger().level
    with log_path.open("a", buffering=1) as log, warnings.catch_warnings():
        to_file = logging.StreamHandler(log)
        to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname).1s %(name)s: %(message)s"))
        to_screen = logging.StreamHandler(screen)
        to_screen.setFormatter(logging.Formatter("    %(message)s"))
        others = root.handlers[:]
        root.handlers[:] = [to_file]
        root.setLevel(logging.INFO)
        LOGGER.addHandler(to_screen)
        logging.captureWarnings(True)
        os.dup2(log.fileno(), 2)
        try:
            yield screen
        finally:
            sys.stderr.flush()
            os.dup2(screen.fileno(), 2)
            logging.captureWarnings(False)
            LOGGER.removeHandler(to_screen)
            root.handlers[:] = others
            root.setLevel(level)
            screen.close()


class Steps(logging.Handler):
    """Follows LocalDagRunner's own messages and prints each component's start and end."""

    def __init__(self, screen: TextIO, num_components: int, outcome: Callable[[str], str]):
        """Prepares to follow a run; attach to the root logger.

        Args:
          screen: where to print.
          num_components: of the graph.
          outcome: component id -> one line of what came out of it.
        """
        super().__init__()
        self._screen = screen
        self._num_components = num_components
        self._outcome = outcome
        self._number = 0
        self._began_s = 0.0
        self.current = ""
        """The component that is running, or that was when the run failed."""

    def emit(self, record: logging.LogRecord) -> None:
        step = _STEP.fullmatch(record.getMessage()) if record.name == "absl" else None
        if step is None:
            return
        component, state = step.groups()
        if state == "running":
            self._number += 1
            self._began_s = time.monotonic()
            self.current = component
            print(f"[{self._number:2}/{self._num_components}] {component}", file=self._screen)
        else:
            elapsed_s = time.monotonic() - self._began_s
            print(f"        {elapsed_s:5.1f} s  {self._outcome(component)}", file=self._screen)
