"""What everyone meets with this stack: TensorFlow 2.16 comes with Keras 3 unless told otherwise in time."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
    )


@pytest.mark.parametrize("package", ["trainer_modules", "components", "serving", "pipeline"])
def test_our_packages_choose_tf_keras(package):
    done = python(f"import os, {package}; print(os.environ['TF_USE_LEGACY_KERAS'])")
    assert done.stdout.strip() == "1", done.stderr


def test_tensorflow_then_comes_with_keras_2():
    done = python("import trainer_modules, tensorflow as tf; print(tf.keras.Model.__module__)")
    assert done.stdout.startswith("tf_keras."), done.stderr


def test_keras_3_that_is_already_there_is_one_clear_error():
    done = python("import tensorflow; import trainer_modules")
    assert done.returncode == 1
    [line] = [line for line in done.stderr.splitlines() if line.startswith("ImportError")]
    assert "Keras 3" in line and "TF_USE_LEGACY_KERAS=1" in line


def test_tensorflow_first_is_fine_where_the_environment_says_so():
    done = python("import tensorflow as tf; import trainer_modules; print('fine')", TF_USE_LEGACY_KERAS="1")
    assert done.stdout.strip() == "fine", done.stderr
