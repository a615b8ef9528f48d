"""What readers of data sets must say of a file with one fault."""

import pytest

from frcnn.data.dataset import DataError, open_dataset


def only_fault(path):
    """Open leniently and strictly; both must tell the same one fault: (data set, fault)."""
    dataset = open_dataset(path)
    (fault,) = dataset.faults
    with pytest.raises(DataError) as caught:
        open_dataset(path, strict=True)
    assert str(caught.value) == str(fault)
    return dataset, fault
