"""tensorflow-recommenders and TFX want tf-keras (Keras 2); TensorFlow 2.16 gives Keras 3 unless told in time.

In time is before the first use of tf.keras: TensorFlow decides then, once per process.
"""

import os
import sys

VARIABLE = "TF_USE_LEGACY_KERAS"


def require() -> None:
    """Makes TensorFlow use tf-keras, without importing it.

    Raises:
      ImportError: Keras 3 is in use already: too late to change it.
    """
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = "1"
    # Asking a TensorFlow that has not decided yet makes it decide, for tf-keras now, which does not tell its version.
    version = getattr(getattr(sys.modules.get("tensorflow"), "keras", None), "__version__", "")
    if version.startswith("3"):
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
        raise ImportError(
            f"TensorFlow was imported before movierec and came with Keras {version}; tensorflow-recommenders"
            f" needs tf-keras 2. Set {VARIABLE}=1 in the environment, or import movierec's packages"
            " (trainer_modules, components, pipeline, serving) before tensorflow."
        )
