import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def vgg16_notop() -> Path:
    """The ImageNet VGG16 file without the top, kept beside the data sets."""
    data = Path(os.environ.get("FRCNN_DATA", ROOT.parent / "shared" / "data"))
    path = data.parent / "weights" / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    if not path.is_file():
        pytest.skip(f"The ImageNet weights of VGG16 are not at {path}.")
    return path
