"""Which random changes of the training pictures a configuration asks for."""

from __future__ import annotations

from frcnn.data.planning import Variety
from frcnn.data.transforms import (
    HorizontalFlip,
    LargeScaleJitter,
    Photometric,
    RandomCrop,
    Rotate90,
    ScaleJitter,
    Transform,
    VerticalFlip,
)
from frcnn.training.config import Config


def transforms_of(config: Config) -> tuple[Transform, ...]:
    """The changes of single pictures, geometry first."""
    chosen: list[Transform] = []
    if config.horizontal_flip:
        chosen.append(HorizontalFlip())
    if config.vertical_flip:
        chosen.append(VerticalFlip())
    if config.rotate:
        chosen.append(Rotate90(p=0.75))  # with "not at all", each of the four is as likely
    if config.crop < 1:
        chosen.append(RandomCrop(low=config.crop))
    if config.large_scale_jitter:
        chosen.append(LargeScaleJitter())
    elif config.scale_jitter:
        chosen.append(ScaleJitter(1 / (1 + config.scale_jitter), 1 + config.scale_jitter))
    if config.photometric:
        strength = config.photometric
        chosen.append(Photometric(0.125 * strength, 0.3 * strength, 0.3 * strength, 10 * strength))
    return tuple(chosen)


def variety_of(config: Config) -> Variety:
    """How often and how large pictures are shown."""
    change = config.multi_scale
    return Variety(
        scales=(1 - change, 1.0, 1 + change) if change else (1.0,),
        rare=config.rare,
        mosaics=config.mosaic,
        mosaic_epochs=max(config.epochs - config.close_mosaic, 0),
    )
