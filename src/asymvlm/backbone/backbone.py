"""Find a VLM's vision tokens, text tokens and positions through public arguments of transformers.

The mechanism: every VLM that puts image tokens into the sequence takes `mm_encoder_outputs` in
`forward` and `generate` (transformers >= 5.18). So its pictures are encoded once, rows are dropped
from the features and from the placeholders alike, and the ordinary model runs on what is left. No
model file is copied or patched.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..engine import ForwardPass, Stage
from ..errors import DataError
from ..typing import Bool, Float, Int64
from .attention_recorder import AttentionRecorder, record_first_layers
from .family_spec import SUPPORTED, family_spec
from .grid import picture_grids
from .layout import Call, EncodedPictures, Layout, check_placeholders, prompt_mask
from .modalities import (
    NAMES,
    Modality,
    encode_modalities,
    in_reading_order,
    modalities_of,
    one_view,
)
from .own_positions import OwnPositions
from .prompt_positions import prompt_positions
from .pruned_inputs import drop_columns, drop_features, kept_columns, read_columns
from .teacher_forcing import with_tails


class Backbone:
    """A transformers VLM seen as tower, placeholders and LLM; any class with `mm_encoder_outputs`.

    Raises DataError for a model that is no VLM or takes no pre-encoded pictures.
    """

    # What a family's config calls itself, where a subclass is for it (`backbone.families`).
    model_types: ClassVar[tuple[str, ...]] = ()

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        # Of the prompt's template and special tokens, where somebody knows them
        # (`Layout.question`).
        self.template_ids: tuple[int, ...] = ()
        self._check()

    def _check(self) -> None:
        name = type(self.model).__name__
        if not self.modalities:
            raise DataError(
                f"{name} is no vision-language model with image tokens in its sequence; supported "
                f"are {SUPPORTED}"
            )
        if "mm_encoder_outputs" not in self.forward_names:
            raise DataError(
                f"{name} takes no encoded pictures (mm_encoder_outputs, transformers >= 5.18); "
                f"supported are {SUPPORTED}"
            )

    @cached_property
    def modalities(self) -> list[Modality]:
        """The kinds of input that the model encodes: pictures, and perhaps videos."""
        return modalities_of(self.model)

    @property
    def width(self) -> int:
        """D, the LLM's hidden size."""
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def device(self) -> torch.device:
        return self.model.device

    def picture_arguments(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Select the arguments of `inputs` that belong to the encoding of pictures."""
        return {name: inputs[name] for name in self.picture_names if inputs.get(name) is not None}

    def brings_pictures(self, inputs: Mapping[str, Any]) -> bool:
        """Return whether a call comes with pixels, or with pictures that are encoded already."""
        given = self.picture_arguments(inputs)
        return self.has_encoded(inputs) or any(name.startswith("pixel_values") for name in given)

    def has_encoded(self, inputs: Mapping[str, Any]) -> bool:
        """Return whether a call comes with pictures that are encoded already."""
        return any((inputs.get("mm_encoder_outputs") or {}).values())

    def encoded_argument(self, inputs: Mapping[str, Any]) -> str | None:
        """Name an argument with encoded pictures that cannot be read as such; None without one."""
        return None

    @cached_property
    def picture_names(self) -> tuple[str, ...]:
        """Names of the arguments that the encoding of pictures takes."""
        return tuple(
            dict.fromkeys(name for modality in self.modalities for name in modality.arguments)
        )

    @cached_property
    def forward_names(self) -> tuple[str, ...]:
        """Names of the model's forward arguments, in order."""
        return tuple(inspect.signature(self.model.forward).parameters)

    def encode(self, inputs: Mapping[str, Any], watch_tower: bool = False) -> EncodedPictures:
        """Run tower and projector once, for all pictures of the batch.

        With `watch_tower` also what the tower computed on the way. Raises ValueError where that is
        about patches that become the LLM's tokens in a way that is not known.
        """
        outputs, views = encode_modalities(self.model, self.modalities, inputs, watch_tower)
        kind = self._kinds(inputs["input_ids"])
        if len(outputs) == 1:  # Molmo2 writes pictures and videos with the same placeholder
            kind = torch.where(kind >= 0, NAMES.index(next(iter(outputs))), kind)
        encoded = in_reading_order(outputs, kind[kind >= 0])
        encoded.tower = one_view(views, encoded) if views else None
        return encoded

    def layout(self, inputs: Mapping[str, Any], encoded: EncodedPictures | None = None) -> Layout:
        """Locate a batch's vision and text tokens, and each vision token in its picture."""
        input_ids = inputs["input_ids"]
        attention_mask = prompt_mask(inputs)
        vision = self.placeholders(input_ids) & attention_mask.bool()
        counts = vision.sum(-1).tolist()
        config = self.model.config
        if encoded is None:
            grids = picture_grids(config, {}, counts, ["image"] * len(counts), counts)
        else:
            lengths = [len(picture) for picture in encoded.pictures]
            check_placeholders(sum(lengths), sum(counts))
            grids = picture_grids(config, inputs, lengths, encoded.kinds, counts)
        grids = [grid.to(input_ids.device) for grid in grids]
        return Layout(input_ids, attention_mask, vision, grids, self.template_ids)

    def placeholders(self, input_ids: Int64[Tensor, "B S"]) -> Bool[Tensor, "B S"]:
        """Mark the vision tokens' columns; a mask may still hide some."""
        return self._kinds(input_ids) >= 0

    def _kinds(self, input_ids: Int64[Tensor, "B S"]) -> Int64[Tensor, "B S"]:
        """The modality that each placeholder stands for, as an index into NAMES; -1 on text."""
        kinds = torch.full_like(input_ids, -1)
        for modality in reversed(self.modalities):
            kinds[input_ids == modality.token_id] = NAMES.index(modality.name)
        return kinds

    def positions(self, inputs: Mapping[str, Any], generating: bool) -> Tensor:
        """Position ids as the model makes them: `[B, S]`, or `[P, B, S]` with several axes."""
        positions = prompt_positions(self.model, inputs, generating)
        return positions.expand(*positions.shape[:-2], len(inputs["input_ids"]), -1)

    def embed_text(self, input_ids: Int64[Tensor, "*b L"]) -> Float[Tensor, "*b L D"]:
        """Look up the LLM's input embeddings of text tokens."""
        return self.model.get_input_embeddings()(input_ids)

    def drop(self, call: Call, generating: bool) -> dict[str, Any]:
        """Build the same call without pixels and without the dropped vision tokens."""
        inputs = self.without_pictures(call.inputs)
        inputs["position_ids"] = self.positions(call.inputs, generating)
        inputs["attention_mask"] = call.layout.attention_mask
        shape, columns = call.layout.input_ids.shape, kept_columns(call)
        inputs = drop_columns(inputs, columns, shape, self.pad_token_id)
        return inputs | {"mm_encoder_outputs": drop_features(call)}

    def read_pruned(self, forward: ForwardPass, call: Call) -> None:
        """Have a forward pass read a prompt without its dropped vision tokens.

        Its rows may be beams, several for each prompt of `call`, and guessed tokens may follow.
        """
        inputs, copies = self._reading(forward, call)
        if call.drops:
            columns = kept_columns(call, copies, inputs["position_ids"].shape[-1])
            inputs = read_columns(forward, inputs, columns, self.pad_token_id)
        forward.inputs = {**inputs, "mm_encoder_outputs": drop_features(call, copies)}

    def _reading(self, forward: ForwardPass, call: Call) -> tuple[dict[str, Any], int]:
        """Build the arguments of the pass, pictures aside, and count the rows of each prompt."""
        assert forward.ids is not None
        mask, shape = call.layout.attention_mask, forward.ids.shape
        copies, rest = divmod(len(forward.ids), len(mask))
        if rest or shape[1] < mask.shape[1]:
            raise ValueError(
                f"input_ids: {tuple(shape)} reached the LLM of a prompt of {tuple(mask.shape)}; "
                "prune it as a whole"
            )
        inputs = self.without_pictures(forward.inputs)
        given = inputs.get("position_ids")
        if given is None:
            inputs["position_ids"] = self.positions(call.inputs, generating=False)
        else:  # one row may serve all
            inputs["position_ids"] = given.expand(*given.shape[:-2], len(forward.ids), -1)
        forward.prompt_length = mask.shape[1]
        forward.prompt_mask = torch.nn.functional.pad(
            mask.repeat_interleave(copies, dim=0), (0, shape[1] - mask.shape[1]), value=1
        )
        forward.positions = inputs["position_ids"]
        return inputs, copies

    @property
    def pad_token_id(self) -> int:
        """The LLM's padding token; 0 where it names none."""
        pad = getattr(self.model.config.get_text_config(), "pad_token_id", None)
        return 0 if pad is None else int(pad)

    @property
    def entry(self) -> nn.Module:
        """The module that takes pictures and prompt."""
        return self.reader

    @property
    def reader(self) -> nn.Module:
        """The module whose forward pass is the LLM's reading of the prompt."""
        return self.model.base_model

    def generate(self, original: Callable[..., Any], **arguments: Any) -> Any:
        """Generate, perhaps from encoded pictures; `original` is the model's own `generate`."""
        return original(**arguments)

    def generation_arguments(self, call: Call) -> dict[str, Any]:
        """Build the arguments of a `generate` whose prefill is given the encoded pictures."""
        given = {"position_ids": self.positions(call.inputs, True), "mm_encoder_outputs": {}}
        return self.without_pictures(call.inputs) | given

    def own_stages(self) -> list[Stage]:
        """Make the stages that every context needs."""
        return [OwnPositions(self)]

    @contextmanager
    def family_hooks(self, forward: Callable[[], ForwardPass | None]) -> Iterator[None]:
        """Install what a family needs while open; `forward` gives the pass under way, or None."""
        yield

    def before_step(self, forward: ForwardPass) -> None:
        """Change the arguments of a forward pass that goes on from a pruned prompt, in place."""

    def with_pictures(self, inputs: Mapping[str, Any], encoded: EncodedPictures) -> dict[str, Any]:
        """Build the same dense call with encoded pictures instead of pixels."""
        return self.without_pictures(inputs) | {"mm_encoder_outputs": dict(encoded.output)}

    def without_pictures(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Leave out the arguments that belong to the encoding of pictures, and encoded ones."""
        pictures = {*self.picture_arguments(inputs), "mm_encoder_outputs"}
        return {name: value for name, value in inputs.items() if name not in pictures}

    def extended(
        self, call: Mapping[str, Any], ids: Int64[Tensor, "B L"], tail_mask: Int64[Tensor, "B L"]
    ) -> dict[str, Any]:
        """Append text to a call; `tail_mask` is 0 on its padding."""
        answer_type = int(family_spec(self.model.config).prefix_types)
        return with_tails(call, ids, tail_mask, answer_type)

    @property
    def attending_layers(self) -> int:
        """The number of decoder layers that attend to vision tokens."""
        return len(self.decoder.layers)

    @property
    def decoder(self) -> Any:
        """The stack of LLM layers."""
        found: Any = self.model.get_decoder()
        while not hasattr(found, "layers"):
            found = found.get_decoder()
        return found

    @torch.no_grad()
    def attention(
        self,
        call: Mapping[str, Any],
        layout: Layout,
        rows: Float[Tensor, "B S"],
        layers: Sequence[int],
        heads: str,
    ) -> list[Float[Tensor, "n"]]:
        """Average attention from weighted `rows` to each sample's vision tokens over `layers`."""
        columns = torch.zeros_like(rows, dtype=torch.bool)
        columns[:, : layout.vision.shape[1]] = layout.vision
        recorder = AttentionRecorder(rows, columns, heads, count=max(layers) + 1)
        record_first_layers(self.model, call, recorder)
        mass = torch.stack([recorder.layers[layer] for layer in layers]).mean(0)
        return [row[mask] for row, mask in zip(mass, columns, strict=True)]
