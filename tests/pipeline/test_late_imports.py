"""What a task does not import, and that what is put off is there when it is wanted."""

import importlib
import json
import subprocess
import sys

import pytest

from pipeline.deploy import late_imports

SCRIPT = """
import json, os, sys

os.environ["_KFP_RUNTIME"] = "true"  # as run_task does
from pipeline.deploy import late_imports
late_imports.prepare()
import components.pinned_schema
late_imports.leave_out_the_evaluator()
from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_run_executor
print(json.dumps([name for name in sys.modules if sys.modules[name] is not None]))
# They are whole for who wants them; TFMA swallows what fails within.
import tensorflow_data_validation as tfdv, tensorflow_model_analysis as tfma, tensorflow as tf
for one in (tfma.default_eval_shared_model, tfma.load_eval_result, tfdv.validate_statistics, tf.keras.Model):
    assert callable(one)
"""


def test_a_task_imports_nothing_that_only_others_need():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert {"tensorflow", "apache_beam", "tfx.types.standard_component_specs"} <= loaded
    for name in ("tensorflow_model_analysis.api", "tensorflow_data_validation.api", "tf_keras", "kubernetes", "nltk",
                 "google.cloud.bigquery", "IPython", "tfx.components.trainer.component"):  # fmt: skip
        assert name not in loaded, name


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that is put off, with a module and an attribute of its own."""
    (tmp_path / "put_off_toy").mkdir()
    (tmp_path / "put_off_toy" / "__init__.py").write_text("from put_off_toy.inner import VALUE\nOWN = VALUE + 1\n")
    (tmp_path / "put_off_toy" / "inner.py").write_text("VALUE = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = late_imports._PutOff(importlib.util.find_spec("put_off_toy"))
    monkeypatch.setitem(sys.modules, "put_off_toy", found)
    yield found
    sys.modules.pop("put_off_toy.inner", None)


def test_a_module_of_it_is_imported_alone(package):
    from put_off_toy import inner

    assert inner.VALUE == 1 and package.inner is inner
    assert "OWN" not in vars(package), "the package itself is still put off"


def test_what_it_defines_itself_loads_it_whole(package):
    from put_off_toy import OWN

    assert OWN == 2 and vars(package)["VALUE"] == 1
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        package.nothing  # noqa: B018
