"""Load a VLM's processor, also without torchvision where only its video part needs that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import AutoProcessor, ProcessorMixin
from transformers.utils import is_torchvision_available

from ..errors import DataError
from ..storage.loading import UNLOADABLE, reason_of


def load_processor(path: str) -> Any:
    """Load the processor at `path`, a directory or a repository.

    Raises DataError where there is none.
    """
    try:
        if is_torchvision_available():
            return AutoProcessor.from_pretrained(path, trust_remote_code=False)
        with pictures_only():
            return AutoProcessor.from_pretrained(path, trust_remote_code=False)
    except UNLOADABLE as error:
        raise DataError(
            f"path: {path} holds no processor that could be loaded ({reason_of(error)})"
        ) from error


@contextmanager
def pictures_only() -> Iterator[None]:
    """Build processors without their video part, which needs torchvision, while open."""
    # The classmethod itself: read as an attribute it would be bound for good.
    original: Any = vars(ProcessorMixin)["get_attributes"]

    def get_attributes(cls: type) -> list[str]:
        return [name for name in original.__func__(cls) if name != "video_processor"]

    mixin: Any = ProcessorMixin
    mixin.get_attributes = classmethod(get_attributes)
    try:
        yield
    finally:
        ProcessorMixin.get_attributes = original  # type: ignore[method-assign]
