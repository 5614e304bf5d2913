"""Reasons why the files of a model cannot be loaded, in one line."""

from __future__ import annotations

from pickle import UnpicklingError

from safetensors import SafetensorError

from ..errors import first_line

# Whatever transformers, torch and safetensors make of files that are damaged or something else.
UNLOADABLE = (
    ImportError,
    OSError,
    ValueError,
    KeyError,
    EOFError,
    RuntimeError,
    SafetensorError,
    UnpicklingError,
)


def reason_of(error: BaseException) -> str:
    """Say why; never how to have foreign code run, which is what libraries advise."""
    text = str(error)
    if "trust_remote_code" in text or "custom code" in text:
        return "it brings Python code of its own, which is never run here"
    if "weights_only" in text or isinstance(error, UnpicklingError):
        return "its weights are no plain tensors, and nothing else is unpickled; take safetensors"
    return first_line(error)
