"""What runs in the pods: one image, and the entry point of every task."""
