"""How good detections are: PASCAL VOC and COCO figures, in NumPy; no model is imported here."""
