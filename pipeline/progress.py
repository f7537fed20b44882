"""What a person sees of a run: a line when a component starts, a line of what came out when it ends.

TFX, Beam and TensorFlow write tens of thousands of characters; all of that goes to the run's log file.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pathlib
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TextIO
from unittest import mock

LOGGER = logging.getLogger("movierec")


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


class Steps:
    """Prints each component's start, and its time and outcome at its end."""

    def __init__(self, screen: TextIO, num_components: int, outcome: Callable[[str], str]):
        """Prepares to follow a run.

        Args:
          screen: where to print.
          num_components: of the graph.
          outcome: component id -> one line of what came out of it.
        """
        self._screen = screen
        self._num_components = num_components
        self._outcome = outcome
        self._number = 0
        self.current = ""
        """The component that is running, or that was when the run failed."""

    @contextlib.contextmanager
    def following(self) -> Iterator[None]:
        """Follows what a TFX runner launches for the time of the context.

        By wrapping the launcher: LocalDagRunner's own messages get lost once a component's import has lowered absl's
        verbosity, as TensorBoard's does.
        """
        from tfx.orchestration.portable.launcher import Launcher

        launch = Launcher.launch

        def followed(launcher: Launcher) -> Any:
            with self._step(launcher._pipeline_node.node_info.id):
                return launch(launcher)

        with mock.patch.object(Launcher, "launch", followed):
            yield

    @contextlib.contextmanager
    def _step(self, component: str) -> Iterator[None]:
        self._number += 1
        self.current = component
        print(f"[{self._number:2}/{self._num_components}] {component}", file=self._screen)
        began_s = time.monotonic()
        yield
        print(f"        {time.monotonic() - began_s:5.1f} s  {self._outcome(component)}", file=self._screen)
