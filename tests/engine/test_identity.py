"""A scorer and a fitted rule meet the model that they were made for, or say so."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from support.families import ByCell

import asymvlm
from asymvlm.checkpoint.scorer import TrainedScorer
from asymvlm.scorers import scorers
from asymvlm.storage.weight_sketch import same_weights, sketch_of_files, sketch_of_model
from asymvlm.storage.weights_fingerprint import weights_fingerprint

STEPS = {"max_new_tokens": 1, "pad_token_id": 0}


@pytest.fixture(scope="module")
def saved(llava, tmp_path_factory):
    """A model and the folder that it is saved in."""
    folder = tmp_path_factory.mktemp("vlm")
    llava.save_pretrained(folder)
    return llava, str(folder)


def trained(model, about):
    width = model.config.get_text_config().hidden_size
    return TrainedScorer(scorers()["diagonal"](width=width), None, (), {"teacher": about})


def changed(model):
    """The same architecture with other weights."""
    other = copy.deepcopy(model)
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return other


def warned(model, scorer, batch, **arguments):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with torch.no_grad(), asymvlm.prune(model, scorer, keep=0.5, **arguments) as report:
            model.generate(**batch, **STEPS)
            model.generate(**batch, **STEPS)
    told = [str(item.message) for item in caught if "asymvlm.prune" in str(item.message)]
    assert told == [f"asymvlm.prune: {note}" for note in report.notes]
    return told


def test_a_sketch_knows_weights_again(saved, tmp_path):
    model, folder = saved
    own = sketch_of_model(model)
    assert same_weights(own, sketch_of_files(folder))
    for dtype in (torch.bfloat16, torch.float16):
        assert same_weights(own, sketch_of_model(copy.deepcopy(model).to(dtype)))
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert weights_fingerprint(str(tmp_path)) != weights_fingerprint(folder)
    assert same_weights(own, sketch_of_files(str(tmp_path))), "whatever the files are called"
    other = changed(model)
    assert not same_weights(own, sketch_of_model(other))
    torch.manual_seed(9)
    fresh = type(model)(model.config)
    assert not same_weights(sketch_of_model(type(model)(model.config)), sketch_of_model(fresh))
    before = sketch_of_model(other)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    assert sketch_of_model(other) != before, "weights that change in place are looked at again"


def test_a_scorer_of_other_weights_warns(saved, batch):
    model, folder = saved
    about = {"name": "tiny", "weights": weights_fingerprint(folder)}
    about["sketch"] = sketch_of_files(folder)
    assert not warned(model, trained(model, about), batch)
    other = changed(model)
    (message,) = warned(other, trained(other, about), batch)
    assert "scorer: trained on other weights (tiny) than those of this Llava" in message


def test_an_older_scorer_knows_its_weights_by_their_files(saved, batch):
    model, folder = saved
    about = {"name": "tiny", "weights": weights_fingerprint(folder)}
    loaded = type(model).from_pretrained(folder)
    assert not warned(loaded, trained(model, about), batch)
    assert len(warned(model, trained(model, about), batch)) == 1, "its weights are from nowhere"
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.mul_(1.5)
    assert len(warned(loaded, trained(model, about), batch)) == 1, "they changed in memory"
    folder_alone = type(model)(type(model.config).from_pretrained(folder))
    assert len(warned(folder_alone, trained(model, about), batch)) == 1, "never loaded"
    assert not warned(model, trained(model, {}), batch), "made by hand: nothing is known"


def test_another_width_is_refused_at_once(llava):
    scorer = TrainedScorer(scorers()["diagonal"](width=7), None)
    with (
        pytest.raises(ValueError, match="scorer: trained for a width of 7, this model's is 40"),
        asymvlm.prune(llava, scorer),
    ):
        pass


def test_a_scorer_without_its_adapter_says_so_once(saved, batch, tmp_path):
    model, _ = saved
    scorer = trained(model, {})
    scorer.adapter = tmp_path
    (message,) = warned(model, scorer, batch)
    assert "scorer: trained beside a LoRA adapter, which is not active" in message


def test_methods_that_know_no_weights_say_nothing(llava, batch):
    assert not warned(llava, ByCell(), batch)
