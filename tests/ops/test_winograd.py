"""The matrices of tiles: together they are a convolution."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from frcnn.ops.winograd import of_kernels, of_maps, of_results

values = st.floats(-10, 10, width=32)


@given(arrays(np.float64, 6, elements=values), arrays(np.float64, 3, elements=values))
def test_results_of_a_row(maps, kernel):
    found = of_results() @ ((of_kernels() @ kernel) * (of_maps() @ maps))
    np.testing.assert_allclose(found, np.correlate(maps, kernel, "valid"), rtol=0, atol=1e-10)


@given(arrays(np.float64, (6, 6), elements=values), arrays(np.float64, (3, 3), elements=values))
def test_results_of_a_piece(maps, kernel):
    b, g, a = of_maps(), of_kernels(), of_results()
    found = a @ ((g @ kernel @ g.T) * (b @ maps @ b.T)) @ a.T
    windows = np.lib.stride_tricks.sliding_window_view(maps, (3, 3))
    np.testing.assert_allclose(found, (windows * kernel).sum((2, 3)), rtol=0, atol=1e-9)
