"""Named architectures, and the weights that others trained."""
