"""Finding or standing in for TensorFlow Serving, and the client that talks to it."""

import trainer_modules  # noqa: F401  sets tf-keras before TensorFlow loads
