"""Parts of networks in PyTorch, whose operations are recorded."""

import torch.nn.functional as F


def residual_block(convolve):
    """Two convolutions and a shortcut, (B, C, H, W) -> (B, H, W, C)."""

    def block(x):
        hidden = F.relu(convolve(x), inplace=True).permute(0, 2, 3, 1)
        grown = convolve(hidden.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return F.relu(x.permute(0, 2, 3, 1) + grown, inplace=True)

    return block


def map_of_several_uses(convolve):
    """A convolution's map that others need beside ReLU, and one that is scaled before a sum."""

    def function(x):
        y = convolve(x)
        return F.relu(y), y, (convolve(x) * 2).permute(0, 2, 3, 1) + 1

    return function
