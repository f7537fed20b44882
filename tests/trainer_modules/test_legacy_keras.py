"""TensorFlow 2.16 gives Keras 3 unless told in time: our packages tell it, or say clearly that it is too late.

Each case is a process of its own: which Keras is used is decided once per process.
"""

import os
import subprocess
import sys

import pytest

PRINT_KERAS = "print(tf.keras.Model.__module__.split('.')[0])"
TOO_LATE = "ImportError: TensorFlow was imported before movierec and came with Keras 3."


def run(code, **environment):
    kept = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    return subprocess.run(
        [sys.executable, "-c", code], env={**kept, **environment}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "imports",
    [
        "import trainer_modules, tensorflow as tf, tensorflow_recommenders",
        "import trainer_modules.features, tensorflow as tf",
        "import tensorflow as tf, trainer_modules",  # tf.keras was not used yet
    ],
)
def test_our_packages_before_the_first_use_of_keras_give_tf_keras(imports):
    result = run(f"{imports}; {PRINT_KERAS}")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "tf_keras"


@pytest.mark.parametrize("then", ["", "import os; os.environ['TF_USE_LEGACY_KERAS'] = '1';"])
def test_keras_3_in_use_is_one_clear_error(then):
    result = run(f"import tensorflow as tf; tf.keras.layers; {then} import trainer_modules")
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith(TOO_LATE)
    assert "Set TF_USE_LEGACY_KERAS=1 in the environment" in last


def test_an_environment_that_says_so_is_enough():
    code = f"import tensorflow as tf; tf.keras.layers; import trainer_modules; {PRINT_KERAS}"
    result = run(code, TF_USE_LEGACY_KERAS="1")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "tf_keras"


def test_names_alone_import_no_tensorflow():
    result = run("import sys, trainer_modules.contract; print('tensorflow' in sys.modules)")
    assert result.stdout.strip() == "False"
