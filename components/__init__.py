"""TFX components: one file, one component."""

import trainer_modules  # noqa: F401  sets tf-keras before TensorFlow loads
