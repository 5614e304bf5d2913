"""Shape annotations by jaxtyping, where it is installed.

Loaders have torch and safetensors alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int64, Shaped
else:
    try:
        from jaxtyping import Bool, Float, Int64, Shaped
    except ImportError:

        class _Shapeless:
            def __class_getitem__(cls, item: tuple[Any, str]) -> Any:
                return item[0]

        Bool = Float = Int64 = Shaped = _Shapeless

__all__ = ["Bool", "Float", "Int64", "Shaped"]
