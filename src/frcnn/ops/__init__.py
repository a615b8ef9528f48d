"""Pure functions of detection on ``keras.ops``: static shapes, no weights, three backends."""
