import numpy as np
import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from frcnn.ops.anchors import base_anchors, grid_anchors

SIZES, RATIOS = ((32, 64), (128, 200)), ((0.5, 1.0, 2.0), (0.3, 1.7))
SHAPES, STRIDES = [(6, 8), (3, 4)], [16, 32]


def test_base_anchors_share_area_and_have_the_ratio():
    anchors = base_anchors((32, 100), (0.5, 1.0, 2.0))
    widths, heights = anchors[:, 2] - anchors[:, 0], anchors[:, 3] - anchors[:, 1]
    assert anchors.dtype == np.float32
    np.testing.assert_allclose(heights / widths, [0.5, 0.5, 1, 1, 2, 2], rtol=1e-6)
    np.testing.assert_allclose(widths * heights, [32**2, 100**2] * 3, rtol=1e-6)
    np.testing.assert_allclose(anchors[:, :2], -anchors[:, 2:])


def test_rounded_anchors_at_corners_equal_torchvisions():
    generator = AnchorGenerator(SIZES, RATIOS)
    images = ImageList(torch.zeros(1, 3, 96, 128), [(96, 128)])
    expected = generator(images, [torch.zeros(1, 1, *shape) for shape in SHAPES])[0].numpy()
    anchors = grid_anchors(SHAPES, STRIDES, SIZES, RATIOS, offset=0.0, rounded=True)
    assert anchors.dtype == np.float32
    np.testing.assert_array_equal(anchors, expected)


def test_anchors_are_centred_on_cells():
    anchors = grid_anchors([(3, 5)], [16], [(32, 64, 128)], [(0.5, 1.0, 2.0)])
    centres = (anchors[:, :2] + anchors[:, 2:]).reshape(3, 5, 9, 2) / 2
    x, y = np.meshgrid((np.arange(5) + 0.5) * 16, (np.arange(3) + 0.5) * 16)
    expected = np.stack([x, y], axis=-1)[:, :, None]
    np.testing.assert_allclose(centres, np.broadcast_to(expected, centres.shape), atol=1e-5)


def test_the_centre_of_a_cell_is_the_same_for_every_size_ratio_and_map():
    """Targets and proposals read one array, and a larger canvas does not move a cell's anchors."""
    small = grid_anchors([(2, 3)], [16], [(128, 256)], [(1.0, 2.0)]).reshape(2, 3, 4, 4)
    large = grid_anchors([(7, 9)], [16], [(128, 256)], [(1.0, 2.0)]).reshape(7, 9, 4, 4)
    np.testing.assert_array_equal(small, large[:2, :3])


def test_disagreeing_levels_are_refused():
    with pytest.raises(ValueError, match="2 shapes, 1 strides"):
        grid_anchors(SHAPES, [16], SIZES, RATIOS)
