# What Keras declares of itself is wrong for our purposes: every function of keras.ops may return
# None or a tensor of one certain backend. The type checker takes all of Keras as it comes.
from typing import Any

def __getattr__(name: str) -> Any: ...
