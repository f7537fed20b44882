"""Our packages come before TensorFlow, whichever test module is collected first: they choose tf-keras."""

import components  # noqa: F401
