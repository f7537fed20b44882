"""The graph and everything that runs it."""

import trainer_modules  # noqa: F401  sets tf-keras before TensorFlow loads
