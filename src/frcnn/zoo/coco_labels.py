"""COCO's class names in the order of its category numbers, which run from 1 to 90.

Ten numbers were never used in the published data; detectors that were trained by number have an
output for them all the same.
"""

from __future__ import annotations

_NAMES = """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire
hydrant, unused 12, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow,
elephant, bear, zebra, giraffe, unused 26, backpack, umbrella, unused 29, unused 30,
handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat,
baseball glove, skateboard, surfboard, tennis racket, bottle, unused 45, wine glass, cup,
fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog,
pizza, donut, cake, chair, couch, potted plant, bed, unused 66, dining table, unused 68,
unused 69, toilet, unused 71, tv, laptop, mouse, remote, keyboard, cell phone, microwave,
oven, toaster, sink, refrigerator, unused 83, book, clock, vase, scissors, teddy bear,
hair drier, toothbrush
"""

COCO_LABELS = tuple(name.strip() for name in _NAMES.replace("\n", " ").split(","))
