"""Images: data sets, backbones, their training, and zero-shot classification.

What is measured with them is in :mod:`equitutor.experiments`, how it is drawn in :mod:`equitutor.book`.
"""

from .backbones import backbone
from .catalogue import labels

__all__ = ["backbone", "labels"]
