"""Hooks before the layers of a decoder, for dense references that see less."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager

from asymvlm.backbone import backbone_of


@contextmanager
def before_layers(model, hook_of, first=0):
    """While open, `hook_of(number)` runs before each of the LLM's layers from `first` on."""
    with ExitStack() as stack:
        for number, layer in enumerate(backbone_of(model).decoder.layers):
            if number >= first:
                stack.callback(
                    layer.register_forward_pre_hook(hook_of(number), with_kwargs=True).remove
                )
        yield
