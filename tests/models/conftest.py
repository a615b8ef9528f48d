# TensorFlow, once imported, makes a later import of torchvision crash; so torchvision goes first.
import torchvision  # noqa: F401
