"""What several test files share although they run in several processes: whoever needs it first makes it."""

import fcntl
import json
import os


def made_once(tmp_path_factory, name, make):
    """What make gave in the first worker that asked; the others wait for it.

    Args:
      tmp_path_factory: pytest's.
      name: of this thing among all that are made.
      make: a new folder -> what JSON can hold. It runs once a session, whatever the number of workers.
    """
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "made-once" / name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        told = folder / "made.json"
        if not told.is_file():
            content = folder / "content"
            content.mkdir()  # fails where an earlier worker's make did: it is told there
            told.write_text(json.dumps(make(content)))
        return json.loads(told.read_text())
