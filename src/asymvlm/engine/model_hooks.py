"""The hooks of one model: there from when the first stage opens until the last one closes."""

from __future__ import annotations

import copy
import functools
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from .arguments import by_name, check_taken
from .attention import attends_through_stages, restore_attention
from .hooked_model import HookedModel, check_attention, check_openable
from .hooks import hooked, wrapped
from .pruned_cache import prompt_state
from .stage import ForwardPass, GenerateCall, Stage

# Private, but the one method of its model that every `generate` of transformers begins with.
_BEGINS_GENERATE = "_prepare_generation_config"
_lock = threading.RLock()
_open: WeakKeyDictionary[nn.Module, ModelHooks] = WeakKeyDictionary()


class _Thread(threading.local):
    """The calls that are under way in one thread."""

    def __init__(self) -> None:
        self.generating: GenerateCall | None = None
        self.entered: GenerateCall | None = None  # a plain call of a model that merges by itself
        self.forwards: list[ForwardPass] = []
        self.embedded: Tensor | None = None  # ids that became embeddings last
        self.dense = 0  # how many ask for the model as it is


class ModelHooks:
    """All hooks on one model, and the stages that they serve, in order.

    Several threads may call the model at once: what is under way in one is not seen by the others.
    """

    def __init__(self, hooked_model: HookedModel) -> None:
        self.hooked_model = hooked_model
        self.stages: list[Stage] = []
        self._uses: Counter[str] = Counter()
        self._installed: dict[str, ExitStack] = {}
        self._thread = _Thread()

    def __deepcopy__(self, memo: dict[int, Any]) -> ModelHooks:
        """Copy a model's hooks along with it, as ones that do nothing: the context is not its."""
        restore_attention(self.hooked_model.model, memo)
        return ModelHooks(copy.deepcopy(self.hooked_model, memo))

    def __reduce__(self) -> Any:
        raise ValueError(
            "model: a context of asymvlm is open on it, and hooks cannot be pickled; close it "
            "first, or save model.state_dict()"
        )

    @classmethod
    @contextmanager
    def opened(cls, hooked_model: HookedModel, stage: Stage) -> Iterator[ModelHooks]:
        """Have a stage act on a model's calls while open.

        Raises ValueError where one of its kind is open already.
        """
        with _lock:
            hooks = _open.get(hooked_model.model) or cls(hooked_model)
            others = [item.hooked_model for item in _open.values()]
            check_openable(hooked_model, stage.name, hooks.stages, others)
            try:
                hooks._add(stage)
            except BaseException:
                hooks._remove(stage)
                raise
        try:
            yield hooks
        finally:
            with _lock:
                hooks._remove(stage)

    def _add(self, stage: Stage) -> None:
        _open[self.hooked_model.model] = self
        needs = {"calls", *stage.needs}
        self._uses.update(needs)
        for name in needs - self._installed.keys():
            self._installed[name] = ExitStack()
            self._installed[name].enter_context(getattr(self, f"_hook_{name}")())
        stages = self.stages or self.hooked_model.own_stages()
        self.stages = sorted([*stages, stage], key=lambda item: item.order)

    def _remove(self, stage: Stage) -> None:
        self._uses.subtract({"calls", *stage.needs})
        left = [item for item in self.stages if item is not stage]
        self.stages = left if self._uses["calls"] else []
        for name in [name for name in self._installed if self._uses[name] == 0]:
            self._installed.pop(name).close()
        if not self.stages:
            _open.pop(self.hooked_model.model, None)

    @contextmanager
    def _hook_calls(self) -> Iterator[None]:
        model: Any = self.hooked_model.model
        entry, reader = self.hooked_model.entry, self.hooked_model.reader
        with ExitStack() as stack:
            if entry is not reader:
                stack.enter_context(wrapped(entry, "forward", self._enter))
                embedding = model.get_input_embeddings()
                stack.enter_context(hooked(embedding, self._before_embedding))
            stack.enter_context(wrapped(reader, "forward", self._forward))
            stack.enter_context(hooked(model, self._before_model))
            decoder = self.hooked_model.decoder
            if decoder is not reader:
                stack.enter_context(hooked(decoder, self._before_decoder))
            stack.enter_context(self.hooked_model.family_hooks(self._under_way))
            stack.enter_context(wrapped(model, "generate", self._generate))
            if hasattr(model, _BEGINS_GENERATE):
                stack.enter_context(wrapped(model, _BEGINS_GENERATE, self._begin_generate))
            yield

    @contextmanager
    def _hook_layers(self) -> Iterator[None]:
        layers = list(self.hooked_model.decoder.layers)
        with ExitStack() as stack:
            for number, layer in enumerate(layers):
                before = functools.partial(self._before_layer, number)
                stack.enter_context(hooked(layer, before))
            stack.enter_context(hooked(layers[-1], after=self._after_layers))
            yield

    def _hook_attention(self) -> AbstractContextManager[None]:
        return attends_through_stages(self.hooked_model.model)

    def _generate(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Generate with all stages: what the model's own `generate` takes and returns."""
        model: Any = self.hooked_model.model
        if self._thread.dense or not self.stages:
            return original(*args, **kwargs)
        usual = functools.partial(type(model).generate, model)
        arguments = by_name(original, args, kwargs, usual)
        if arguments.get("inputs") is not None:
            arguments["input_ids"] = arguments.pop("inputs")
        configs = (arguments.get("generation_config"), model.generation_config)
        call = GenerateCall(arguments, configs)
        if self.hooked_model.entry is self.hooked_model.reader:  # others infer none
            arguments["attention_mask"] = call.mask()
        call.attention_mask = arguments.get("attention_mask")
        for stage in self._called():
            stage.check_generate(call)
        for stage in self.stages:
            stage.begin_generate(call)
        call.disable_compile()
        check_taken("generate", original, call.arguments)
        before, self._thread.generating = self._thread.generating, call
        try:
            return self.hooked_model.generate(original, **call.arguments)
        finally:
            self._thread.generating = before

    def _begin_generate(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Refuse a `generate` that is not called on the object, and so not seen."""
        if self.stages and not self._thread.dense and self._thread.generating is None:
            self._called()
            raise ValueError(
                "generate: it was called on the class, as type(model).generate(model, ...), past "
                "what is open on the model; call model.generate(...)"
            )
        return original(*args, **kwargs)

    @contextmanager
    def dense(self) -> Iterator[None]:
        """Leave this thread's calls of the model as they are, while open."""
        self._thread.dense += 1
        try:
            yield
        finally:
            self._thread.dense -= 1

    def _called(self) -> list[Stage]:
        """Return the stages, and note that the model was called while they are open."""
        for stage in self.stages:
            stage.called = True
        return self.stages

    def _under_way(self) -> ForwardPass | None:
        return next(reversed(self._thread.forwards), None)

    def _before_embedding(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        self._thread.embedded = args[0] if args else kwargs["input"]

    def _before_model(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Let stages refuse a call of the whole model before any work."""
        if not self._thread.dense:
            arguments = by_name(model.forward, args, kwargs)
            for stage in self._called():
                stage.check_model_call(arguments)

    def _enter(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Let stages change a plain call of a model that merges the pictures itself."""
        if self._thread.dense or not self.stages:
            return original(*args, **kwargs)
        call = GenerateCall(by_name(original, args, kwargs), ())
        for stage in self._called():
            stage.before_entry(call)
        before, self._thread.entered = self._thread.entered, call
        try:
            return original(**call.arguments)
        finally:
            self._thread.entered = before

    def _forward(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Read with all stages: what the reader's own forward pass takes and returns."""
        if self._thread.dense or not self.stages or "attention_stage" in kwargs:
            return original(*args, **kwargs)
        forward = self._forward_pass(by_name(original, args, kwargs))
        self._thread.forwards.append(forward)
        try:
            for stage in forward.stages:
                stage.before_forward(forward)
            if self._installed.keys() & {"layers", "attention"}:
                forward.inputs["attention_stage"] = forward
            if forward.as_tuple:
                forward.inputs["return_dict"] = True
            output = original(**forward.inputs)
            for stage in reversed(forward.stages):
                stage.after_forward(forward, output)
        except BaseException:
            for stage in forward.stages:
                stage.failed(forward)
            raise
        finally:
            self._thread.forwards.pop()
            self._thread.embedded = None
            if forward.state is not None:
                forward.state.fitted = False
        return output.to_tuple() if forward.as_tuple else output

    def _forward_pass(self, inputs: dict[str, Any]) -> ForwardPass:
        reader: Any = self.hooked_model.reader
        call, cache = self._thread.entered or self._thread.generating, inputs.get("past_key_values")
        forward = ForwardPass(inputs, self._called(), call, self._ids(inputs), cache)
        forward.state = prompt_state(cache)
        given = inputs.get("return_dict")
        forward.as_tuple = not (reader.config.return_dict if given is None else given)
        if "attention" in self._installed:
            check_attention(inputs, self.hooked_model.model)
        return forward

    def _ids(self, inputs: dict[str, Any]) -> Tensor | None:
        """Find the ids behind what is read; embeddings' rows may be beams by now."""
        ids, embeddings = inputs.get("input_ids"), inputs.get("inputs_embeds")
        if ids is not None or embeddings is None:
            return ids
        ids = self._thread.embedded
        if ids is None or ids.shape[-1] != embeddings.shape[1] or len(embeddings) % len(ids):
            return None
        return ids.repeat_interleave(len(embeddings) // len(ids), dim=0)

    def _before_decoder(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        """Tell stages of passes that did not come through the reader."""
        if not self._thread.dense and not self._thread.forwards and "attention_stage" not in kwargs:
            for stage in self.stages:
                stage.passed_by()

    def _before_layer(
        self, layer: int, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        forward = kwargs.get("attention_stage")
        if not isinstance(forward, ForwardPass):
            return None
        hidden = args[0] if args else kwargs["hidden_states"]
        changed: Mapping[str, Any] = kwargs
        for stage in forward.stages:
            hidden, changed = stage.before_layer(forward, layer, hidden, changed)
        if args:
            return (hidden, *args[1:]), dict(changed)
        return (), {**changed, "hidden_states": hidden}

    def _after_layers(
        self, module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any
    ) -> Any:
        forward = kwargs.get("attention_stage")
        if not isinstance(forward, ForwardPass):
            return None
        for stage in reversed(forward.stages):
            output = stage.after_layers(forward, output)
        return output


@contextmanager
def dense(model: nn.Module) -> Iterator[None]:
    """Have this thread call a model as it is while open, whatever stages are open on it."""
    hooks = _open.get(model)
    with nullcontext() if hooks is None else hooks.dense():
        yield
