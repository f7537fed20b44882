"""tensorflow-recommenders and TFX want tf-keras (Keras 2); TensorFlow gives Keras 3 unless told before it loads."""

import os
import sys

VARIABLE = "TF_USE_LEGACY_KERAS"


def require() -> None:
    """Makes TensorFlow use tf-keras, without importing it.

    Raises:
      ImportError: TensorFlow is loaded already, and with Keras 3: too late to change it.
    """
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None and os.environ.get(VARIABLE) not in ("1", "true", "True"):
        version = getattr(getattr(tensorflow, "keras", None), "__version__", "")
        if version.startswith("3"):
            raise ImportError(
                f"TensorFlow was imported before movierec and came with Keras {version}; tensorflow-recommenders"
                f" needs tf-keras 2. Set {VARIABLE}=1 in the environment, or import movierec's packages"
                " (trainer_modules, components, pipeline, serving) before tensorflow."
            )
    os.environ[VARIABLE] = "1"
