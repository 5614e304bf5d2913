"""A frozen transformers VLM and where its vision tokens are. Knows transformers, knows nothing of scores."""

from .backbone import Backbone, Encoded, Layout
from .relevance import RelevanceRecorder, recording

__all__ = ["Backbone", "Encoded", "Layout", "RelevanceRecorder", "recording"]
