import numpy as np
import pytest
from keras import ops

from frcnn.training.optimizer import SGD
from tiny import tiny_batch, tiny_network

pytestmark = pytest.mark.backend


def trained(parts, **options):
    """Losses of three steps, and the weights after them."""
    network = tiny_network(dropout=0.2, **options)
    network.compile(SGD(0.02, momentum=0.9, decay=1e-3, global_clipnorm=1.0))
    network.parts = parts
    losses = []
    for step in range(3):
        network.reset_metrics()
        losses.append(network.train_on_batch(*tiny_batch(4, seed=step), return_dict=True))
    numbers = [{name: float(value) for name, value in each.items()} for each in losses]
    return numbers, [ops.convert_to_numpy(weight) for weight in network.trainable_variables]


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_make_the_step_of_the_batch(parts):
    whole, weights = trained(1)
    losses, same = trained(parts)
    for one, other in zip(whole, losses, strict=True):
        assert one == pytest.approx(other, rel=1e-5)
    for one, other in zip(weights, same, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_batch_that_does_not_divide_is_refused():
    network = tiny_network()
    network.compile(SGD(0.02))
    network.parts = 3
    with pytest.raises(ValueError, match="3 equal parts. Received: 4"):
        network.train_on_batch(*tiny_batch(4))
