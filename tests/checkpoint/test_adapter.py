"""Adapters beside a scorer: exported as peft's own, applied only when asked."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from peft import PeftModel
from safetensors.torch import save_file
from support.lora_runs import adapter

import asymvlm
from asymvlm.check import check_directory
from asymvlm.checkpoint.scorer import save_scorer
from asymvlm.documents.sources.source import DataSource
from asymvlm.errors import DataError
from asymvlm.evaluation.evaluate import evaluate
from asymvlm.export import export_checkpoint
from asymvlm.methods import Learned
from asymvlm.storage.fingerprint import describe


@torch.no_grad()
def test_worn_while_pruning_and_gone_afterwards(frozen, first, llava, batch):
    scorer, dense = asymvlm.load_scorer(frozen), llava(**batch).logits
    before = {name: tensor.clone() for name, tensor in llava.state_dict().items()}
    with asymvlm.prune(llava, scorer, keep=0.25):
        plain = llava(**batch).logits
    with asymvlm.prune(llava, scorer, keep=0.25, adapter=True) as report:
        worn = llava(**batch).logits
    assert set(report.calls[-1].after) == {64} and not torch.equal(worn, plain)
    assert llava.state_dict().keys() == before.keys() and all(
        torch.equal(before[name], one) for name, one in llava.state_dict().items()
    )
    assert torch.equal(llava(**batch).logits, dense) and not hasattr(llava, "peft_config")
    with asymvlm.prune(llava, asymvlm.load_scorer(first), keep=0.25):
        assert torch.equal(llava(**batch).logits, plain)


pytestmark = pytest.mark.filterwarnings("default")


@torch.no_grad()
def test_plain_peft_loads_it(frozen, llava, batch):
    scorer = asymvlm.load_scorer(frozen)
    with asymvlm.prune(llava, scorer, keep=0.25, adapter=True):
        worn = llava(**batch).logits
    adapted = PeftModel.from_pretrained(llava, str(scorer.adapter))
    try:
        with asymvlm.prune(adapted, scorer, keep=0.25):
            assert torch.equal(adapted(**batch).logits, worn)
        with (
            pytest.raises(ValueError, match="has adapters already"),
            asymvlm.prune(adapted, scorer, keep=0.25, adapter=True),
        ):
            pass
    finally:
        adapted.unload()


def test_it_has_a_row_in_the_table(frozen, teacher, data_root, tmp_path):
    about = {
        "data": DataSource(root=str(data_root)),
        "pages": 2,
        "latency_batches": [1],
        "longest_answer": 3,
        "output": str(tmp_path),
    }
    rows = evaluate(str(teacher), str(frozen), keeps=[0.25], **about)
    assert {row.method for row in rows} == {"learned", "recovered"}


def test_the_adapter_is_part_of_what_a_method_is(frozen, tmp_path):
    copied = shutil.copytree(frozen, tmp_path / "copy")
    methods = [
        Learned(str(frozen)),
        Learned(str(frozen), adapter=True),
        Learned(str(copied), adapter=True),
    ]
    assert describe(methods[0]) != describe(methods[1]) == describe(methods[2])
    config = json.loads((copied / "adapter/adapter_config.json").read_text())
    (copied / "adapter/adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 3}))
    assert describe(Learned(str(copied), adapter=True)) != describe(methods[1])


def test_a_scorer_saved_again_keeps_its_adapter(frozen, tmp_path):
    save_scorer(asymvlm.load_scorer(frozen), tmp_path / "again", "card")
    check_directory(tmp_path / "again")
    assert describe(Learned(str(tmp_path / "again"), adapter=True)) == describe(
        Learned(str(frozen), adapter=True)
    )


def test_an_adapter_that_does_not_fit_leaves_the_model_alone(frozen, llava, tmp_path):
    """Of a model with other layers, and with layers of another size.

    Peft has put its layers in before it finds out.
    """
    before = {
        name: (tensor.clone(), tensor.requires_grad) for name, tensor in llava.named_parameters()
    }
    for spoil in (
        lambda name, tensor: {name: tensor[:, : tensor.shape[1] - ("lora_A" in name)].contiguous()},
        lambda name, tensor: {} if "layers.0" in name else {name: tensor},
    ):
        other = shutil.copytree(frozen, tmp_path / "other", dirs_exist_ok=True)
        tensors = {
            key: one
            for name, tensor in adapter(frozen).items()
            for key, one in spoil(name, tensor).items()
        }
        save_file(tensors, other / "adapter/adapter_model.safetensors")
        with (
            pytest.raises(ValueError, match="does not fit"),
            asymvlm.prune(llava, asymvlm.load_scorer(other), adapter=True),
        ):
            pass
        now = dict(llava.named_parameters())
        assert now.keys() == before.keys()
        assert all(
            torch.equal(now[name], one) and now[name].requires_grad == grad
            for name, (one, grad) in before.items()
        )


@pytest.mark.parametrize(
    "changed",
    [
        {"lora_dropout": "x"},
        {"init_lora_weights": "x"},
        {"alpha_pattern": None},
        {"use_rslora": {"6": []}, "alpha_pattern": []},
        {"lora_bias": [{}]},
        {"task_type": "x"},
        {"bias": ["x"]},
        {"target_modules": "["},
    ],
)
def test_what_peft_cannot_apply_is_one_line_and_leaves_the_model_alone(
    frozen, llava, tmp_path, changed
):
    """Some of these it finds after it has put in a layer or more."""
    other = shutil.copytree(frozen, tmp_path / "other")
    config = json.loads((other / "adapter/adapter_config.json").read_text())
    (other / "adapter/adapter_config.json").write_text(json.dumps(config | changed))
    modules, attributes = dict(llava.named_modules()), set(vars(llava))
    trainable = [parameter.requires_grad for parameter in llava.parameters()]
    with (
        pytest.raises(ValueError, match=r"adapter: .* does not fit") as error,
        asymvlm.prune(llava, asymvlm.load_scorer(other), adapter=True),
    ):
        pass
    assert len(str(error.value).splitlines()) == 1
    assert dict(llava.named_modules()) == modules and set(vars(llava)) == attributes
    assert [parameter.requires_grad for parameter in llava.parameters()] == trainable


def test_applying_changes_neither_mode_nor_random_state(frozen, llava, batch):
    llava.train()
    llava.gradient_checkpointing_enable()
    scorer = asymvlm.load_scorer(frozen)
    state, hooks = torch.get_rng_state(), len(llava.get_input_embeddings()._forward_hooks)
    try:
        with asymvlm.prune(llava, scorer, keep=0.25, adapter=True):
            assert torch.equal(torch.get_rng_state(), state)
            llava.generate(**batch, max_new_tokens=1, do_sample=False)
        assert all(module.training for module in llava.modules())
        assert len(llava.get_input_embeddings()._forward_hooks) == hooks
    finally:
        llava.gradient_checkpointing_disable()
        llava.eval()


def test_equal_checkpoints_give_equal_adapters(frozen, tmp_path):
    again = export_checkpoint(frozen.parent / "best.ckpt", tmp_path / "again")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (again / "adapter" / name).read_bytes() == (frozen / "adapter" / name).read_bytes()
    modules = json.loads((again / "adapter/adapter_config.json").read_text())["target_modules"]
    assert modules == sorted(modules) and len(modules) == 8


def test_a_scorer_without_an_adapter_says_so(first, llava):
    with (
        pytest.raises(ValueError, match="train one with"),
        asymvlm.prune(llava, asymvlm.load_scorer(first), adapter=True),
    ):
        pass


@pytest.mark.parametrize(
    "spoil,says",
    [
        (
            lambda folder: (folder / "adapter/adapter_config.json").unlink(),
            "adapter/adapter_config.json is missing",
        ),
        (
            lambda folder: (folder / "adapter/adapter_model.safetensors").write_bytes(b"x"),
            "is truncated",
        ),
    ],
)
def test_a_broken_adapter_is_found(frozen, tmp_path, spoil, says):
    broken = shutil.copytree(frozen, tmp_path / "broken")
    spoil(broken)
    with pytest.raises(DataError, match=says):
        asymvlm.load_scorer(broken)
