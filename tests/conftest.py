"""Shared tiny models: built from configs, random weights, seconds to make."""

from __future__ import annotations

import os

import pytest
import torch
from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")


settings.register_profile("any machine", deadline=None)  # properties hold on slow ones too
settings.load_profile("any machine")

pytest_plugins = ["support.family_table"]


@pytest.fixture(scope="session")
def processor():
    from asymvlm.tiny_teacher.tokens import build_processor

    return build_processor()


@pytest.fixture(scope="session")
def llava(processor):
    """A random LLaVA of the teacher's own architecture, two layers deep."""
    from transformers import LlavaForConditionalGeneration

    from asymvlm.tiny_teacher.build import llava_config

    torch.manual_seed(0)
    config = llava_config(processor.tokenizer, width=40, layers=2, heads=5)
    model = LlavaForConditionalGeneration(config).eval()
    # Default initialisation gives nearly uniform attention, and says one token for ever.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0) if parameter.ndim > 1 else None
        model.lm_head.weight = torch.nn.Parameter(0.2 * torch.randn_like(model.lm_head.weight))
    model.generation_config.update(pad_token_id=0, eos_token_id=None, max_new_tokens=8)
    return model


@pytest.fixture(scope="session")
def page_samples():
    """Questions about three generated pages, of different lengths."""
    import datasets

    from asymvlm.documents import samples
    from asymvlm.documents.sample import FEATURES
    from asymvlm.documents.world.generate import generate
    from asymvlm.documents.world.generated import page_row

    rows = [page_row(f"p{index}", *generate(3, "test", index, 1, 1)) for index in range(3)]
    return list(samples(datasets.Dataset.from_list(rows, features=FEATURES)))


@pytest.fixture
def batch(processor, page_samples):
    """A left-padded batch of three prompts of different lengths."""
    from asymvlm.backbone.prompt import Prompter

    chosen = page_samples[::2]
    return Prompter(processor)(chosen).inputs


@pytest.fixture(scope="module")
def teacher(llava, processor, tmp_path_factory):
    """The random LLaVA as a directory, for commands."""
    directory = tmp_path_factory.mktemp("teacher")
    llava.save_pretrained(directory)
    processor.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    """Where a test file's trainings keep their data: pages and targets are made once."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def small():
    """(a tiny LLaVA, a batch of one picture and 20 words, two pictures and 4 words)."""
    from support import families

    model = families.llava().build()
    return model, families.batch(model, families.llava(), words=(20, 4))
