"""A trained detector as a file of another runtime.

What can be asked of the formats is known without Keras: the command line chooses the backend by
``formats`` before Keras is imported.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from frcnn.export.export import export_detector as export_detector

__all__ = ["export_detector"]


def __getattr__(name: str):
    if name != "export_detector":
        raise AttributeError(f"module 'frcnn.export' has no attribute {name!r}")
    from frcnn.export.export import export_detector

    return export_detector
