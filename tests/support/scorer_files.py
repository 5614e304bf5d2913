"""Scorer directories written file by file, and what hypothesis spoils in them."""

from __future__ import annotations

import copy
import json
import shutil

import torch
from hypothesis import strategies as st
from safetensors.torch import save

from asymvlm.checkpoint.scorer import TrainedScorer
from asymvlm.scorers import BudgetHead, scorers

WIDTH = 6
SIZES = {
    "diagonal": {}, "low_rank": {"rank": 3}, "cross_attention": {"hidden": 4, "heads": 2},
    "text_free": {"hidden": 4}, "vision_selector": {"hidden": 3},
}  # fmt: skip
ABOUT = {
    "teacher": {"name": "t", "weights": "w", "sketch": "0123abcd 89ef4567"},
    "data": {"fingerprints": {}},
    "training": {"epochs": 1, "steps": 2, "seed": 0, "commit": None, "metrics": {"val/loss": 1.0}},
}
LORA = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q"], "bias": "none"}
MODULE = "base_model.model.q"


class Files(dict):
    """Contents by file, which failing examples show by name alone."""

    def __repr__(self):
        shown = {name: "tensors" if is_tensors(one) else one for name, one in self.items()}
        return f"Files({shown})"[:2000]


def is_tensors(content):
    return isinstance(content, dict) and any(torch.is_tensor(one) for one in content.values())


def whole(kind="low_rank", budget=True, adapter=False):
    """The contents of a valid directory: configs as objects, tensors by name."""
    torch.manual_seed(0)
    head = BudgetHead(WIDTH, 4) if budget else None
    trained = TrainedScorer(scorers()[kind](WIDTH, **SIZES[kind]), head, (0, 3), ABOUT)
    files = Files(
        {"config.json": copy.deepcopy(trained.config()), "model.safetensors": state(trained)}
    )
    if adapter:
        files["config.json"]["adapter"] = "adapter"
        files["adapter/adapter_config.json"] = copy.deepcopy(LORA)
        files["adapter/adapter_model.safetensors"] = {
            f"{MODULE}.lora_A.weight": torch.ones(2, 5),
            f"{MODULE}.lora_B.weight": torch.ones(7, 2),
        }
    return files


def state(trained):
    return {name: one.detach().clone() for name, one in trained.state_dict().items()}


def encoded(content):
    """What of a file's contents goes to the disk: bytes, a JSON value, or tensors."""
    if isinstance(content, bytes):
        return content
    if is_tensors(content):
        return save({name: one.contiguous() for name, one in content.items()})
    return json.dumps(content).encode()


def written(files, directory):
    """Write a directory; a file whose content is None becomes a folder."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    for name, content in files.items():
        (directory / name).parent.mkdir(exist_ok=True)
        if content is None:
            (directory / name).mkdir()
        else:
            (directory / name).write_bytes(encoded(content))
    return directory


def paths(value, before=()):
    """The path of every key and item of a JSON value."""
    children = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in children:
        yield (*before, key)
        if isinstance(child, dict | list):
            yield from paths(child, (*before, key))


def put(config, path, value):
    for key in path[:-1]:
        config = config[key]
    config[path[-1]] = value


def drop(config, path):
    for key in path[:-1]:
        config = config[key]
    del config[path[-1]]


NUMBERS = st.sampled_from([
    0, 1, 2, 3, 4, 6, -1, 2**31 - 1, 2**31, 2**63, 10**400, True, False, 1.0, 6.0, -0.5, 1e300,
    float("nan"), float("inf"), -float("inf"),
])  # fmt: skip
WORDS = st.sampled_from(
    [
        "",
        "6",
        *SIZES,
        "future",
        "llm_input",
        "adapter",
        "LORA",
        "ü\n",
        "\ud800",
        "\x00",
        "q[",
        "a" * 500,
    ]
)
VALUES = st.recursive(
    NUMBERS | WORDS | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=2),
    max_leaves=4,
)
KEYS = st.sampled_from(["width", "hidden", "heads", "rank", "scale", "adapter", "own", "a\nb", "ü"])


@st.composite
def spoilt_config(draw, config):
    """A config with a few things put in, changed or taken out."""
    config = copy.deepcopy(config)
    for _ in range(draw(st.integers(1, 2))):
        places = list(paths(config))
        path = draw(st.sampled_from(places)) if places else (draw(KEYS),)
        how = draw(st.sampled_from(["put", "put", "drop", "add"]))
        if how == "add" and places and isinstance(path[-1], str):
            put(config, (*path[:-1], draw(KEYS)), draw(VALUES))
        elif how == "drop" and places:
            drop(config, path)
        else:
            put(config, path, draw(VALUES))
    return draw(st.just(config) | VALUES) if draw(st.integers(0, 9)) == 0 else config


FILLS = [0.0, 1e-30, 65504.0, -65504.0, 65505.0, 3e38, float("nan"), float("inf"), -float("inf")]
DTYPES = [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.bool]


@st.composite
def spoilt_tensors(draw, tensors):
    """Tensors of which some are missing, new, of another name, shape or type, or hold anything."""
    tensors = {name: one.clone() for name, one in tensors.items()}
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(sorted(tensors)))
        one, how = tensors[name], draw(st.integers(0, 8))
        if how == 0 and len(tensors) > 1:
            del tensors[name]
        elif how == 1:
            tensors[draw(st.sampled_from([f"{name}.x", "a\nb", "scorer.ü", ""]))] = one.clone()
        elif how == 2:
            tensors[name] = one.to(draw(st.sampled_from(DTYPES)))
        elif how == 3:
            turned = one.transpose(0, -1) if one.dim() else one
            tensors[name] = (
                draw(st.sampled_from([one[None], one.flatten(), turned, one[..., :1], one[:0]]))
                .clone()
                .contiguous()
            )
        elif one.is_floating_point():
            places = one.view(-1)[: 1 if how == 4 else None]
            places.copy_(torch.tensor(draw(st.sampled_from(FILLS))))
    return tensors


@st.composite
def spoilt_bytes(draw, content):
    """Contents that are cut, changed in a few places, or something else."""
    how = draw(st.integers(0, 5))
    if how == 0:
        return content[: draw(st.integers(0, len(content)))]
    if how == 1:
        return draw(st.sampled_from([b"", b"\xef\xbb\xbf", b"\xff\xfe", b"\0" * 8])) + content
    if how == 2:
        return content.replace(b'"width": ', b'"width": 6, "width": ', 1) + b" "
    if how == 3:
        return draw(st.sampled_from([b"[" * 100_000, b"9" * 5000, b"1e999", b"null", b"{}", b'""']))
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        last = len(content) - 1 if draw(st.booleans()) else min(200, len(content) - 1)
        content[draw(st.integers(0, last))] = draw(st.integers(0, 255))
    return bytes(content)


@st.composite
def directories(draw):
    """Files of a directory, valid or spoilt in a file or two."""
    kind, budget, adapter = (
        draw(st.sampled_from(sorted(SIZES))),
        draw(st.booleans()),
        draw(st.booleans()),
    )
    files = whole(kind, budget, adapter)
    for _ in range(draw(st.integers(0, 2))):
        name = draw(st.sampled_from(sorted(files)))
        content, how = files[name], draw(st.integers(0, 9))
        if how == 0:
            del files[name]
        elif how == 1:
            files[name] = None
        elif content is None or isinstance(content, bytes) or how < 4:
            files[name] = content if content is None else draw(spoilt_bytes(encoded(content)))
        elif name.endswith(".json") and isinstance(content, dict) and content:
            files[name] = draw(spoilt_config(content))
        elif name.endswith(".safetensors"):
            files[name] = draw(spoilt_tensors(content))
        if not files:
            break
    return files
