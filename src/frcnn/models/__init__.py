"""The networks: layers, extractors, pyramid, RPN, RoI head, Faster R-CNN, detector."""
