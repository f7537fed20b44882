"""movierec started as a user starts it, and what it said."""

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHARED_DATA = ROOT.parent / "shared" / "data"
MOVIEREC = [str(pathlib.Path(sys.executable).with_name("movierec"))]
_SHORT_CHAINS = """
[ranking.hyperparameters]
num_steps = 400
num_tuning_steps = 200
burn_in_steps = 130
"""
"""Less than half of factorization_machine's: enough for the gates. All of them run in the slow test of an
official fold, and in the benchmarks."""
_START = re.compile(r"\[ *\d+/\d+\] (\w+)")
_END = re.compile(r" +[\d.]+ s  (from the cache\. )?(.*)")


def options_within(folder):
    """Of a run that keeps its root and its cache in this folder, with short chains."""
    settings = folder / "settings.toml"
    settings.write_text(f'cache_dir = "{folder / "cache"}"\n' + _SHORT_CHAINS)
    return ("--root", folder / "root", "--settings", settings)


@dataclasses.dataclass(frozen=True)
class Done:
    """A finished command."""

    status: int
    out: str
    err: str

    @property
    def steps(self):
        """Component -> (whether the cache answered, what came out), of those that finished."""
        found, component = {}, None
        for line in self.err.splitlines():
            if start := _START.fullmatch(line):
                component = start[1]
            elif end := _END.fullmatch(line):
                found[component] = (bool(end[1]), end[2])
        return found

    @property
    def ran(self):
        """Components that the cache did not answer."""
        return {component for component, (cached, _) in self.steps.items() if not cached}


@dataclasses.dataclass(frozen=True)
class Run:
    """A root, the options and the command that made it."""

    root: pathlib.Path
    options: tuple
    first: Done

    def again(self, *more):
        return movierec("run", *self.options, *more)

    def on_kubeflow(self, root):
        """The same in another root: compiled, and each task's own command run as Kubeflow's launcher would."""
        options = [*self.options]
        options[options.index("--root") + 1] = root
        return Run(root, tuple(options), movierec("run", *options, "--target", "kubeflow-local"))

    def report_on_kubeflow(self, model):
        """What the evaluation of a model left in what stands for the object store."""
        store = self.root / "kubeflow" / "run-1" / "object_store"
        [path] = store.rglob(f"{model.capitalize()}Evaluation/*/evaluation/metrics.json")
        return json.loads(path.read_text())

    def ask(self, *arguments):
        """A verb on this root that must succeed; returns what it printed."""
        done = movierec(*arguments, "--root", self.root)
        assert done.status == 0, done.err
        return done.out

    @property
    def versions(self):
        """Model -> its version folders."""
        paths = {model: self.root / "models" / model for model in ("retrieval", "ranking")}
        there = {model: path for model, path in paths.items() if path.is_dir()}
        return {model: sorted(entry.name for entry in path.iterdir()) for model, path in there.items()}


def movierec(*arguments, command=MOVIEREC, cwd=None, environment=None):
    done = subprocess.run(
        [*command, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    return Done(done.returncode, done.stdout, done.stderr)


@contextlib.contextmanager
def served(root):
    """`movierec serve` on a free port; yields its address. It ends well when it is told to."""
    process = subprocess.Popen(
        [*MOVIEREC, "serve", "--root", str(root), "--address", "127.0.0.1:0"],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    said = re.search(r" at (127\.0\.0\.1:\d+) with (.*)", process.stdout.readline())
    assert said, "the server did not say where it listens"
    yield said[1]
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 0


def killed_at(component, *options):
    """Starts a run and kills it, without warning, as soon as it says that the component is running."""
    process = subprocess.Popen([*MOVIEREC, "run", *map(str, options)], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        start = _START.fullmatch(line.rstrip("\n"))
        if start and start[1] == component:
            process.send_signal(signal.SIGKILL)
            break
    process.stderr.close()
    assert process.wait() == -signal.SIGKILL, f"the run ended before {component} began"
