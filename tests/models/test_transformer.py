"""Any encoder that transformers knows reads plots, and its lower part can be frozen."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModel

from mmgcs.errors import UsageError
from mmgcs.export import export_encoder
from mmgcs.film import Film
from mmgcs.models import ENCODERS

COMMON = {
    "vocab_size": 120,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 80,
    "pad_token_id": 1,
}
# What stands around the layers differs: projected embeddings, positions that each layer is given, a norm after the
# last layer, a convolution after the first, one layer run many times, other names of everything.
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": COMMON,
    "roberta": COMMON,
    "mpnet": COMMON,
    "electra": {**COMMON, "embedding_size": 16},
    "albert": {**COMMON, "embedding_size": 16},
    "deberta-v2": {
        **COMMON,
        "relative_attention": True,
        "position_buckets": 16,
        "pos_att_type": ["p2c", "c2p"],
        "conv_kernel_size": 3,
    },
    "modernbert": {**COMMON, **dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 2)},
    "distilbert": {
        "vocab_size": 120,
        "dim": 32,
        "n_layers": 4,
        "n_heads": 4,
        "hidden_dim": 48,
        "max_position_embeddings": 80,
        "pad_token_id": 1,
    },
    "xlm": {**COMMON, "emb_dim": 32, "n_layers": 4, "n_heads": 4},
}


@pytest.fixture(scope="module")
def films() -> list[Film]:
    return [
        Film(plot="A thief plans one last robbery in Paris.", title="The Last Job"),
        Film(plot="Two dancers fall in love during a long summer of rehearsals, rivals and rain."),
        Film(plot="Wolves."),
    ]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small encoder of each family, with random weights, as its own library saves it."""
    found = {}
    words = {"[UNK]": 0, "[PAD]": 1, **{f"w{index}": index for index in range(2, 120)}}
    transformers.logging.disable_progress_bar()
    for name, settings in FAMILIES.items():
        folder = tmp_path_factory.mktemp(name)
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            AutoModel.from_config(AutoConfig.for_model(name, **settings)).save_pretrained(folder)
        tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.save(str(folder / "tokenizer.json"))
        found[name] = folder
    return found


def some_inputs() -> dict[str, torch.Tensor]:
    ids = torch.randint(2, 120, (3, 11), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, 7:] = mask[2, 2:] = 0
    return {"input_ids": torch.where(mask == 1, ids, 1), "attention_mask": mask}


def mean_of(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    hidden = model(**inputs).last_hidden_state
    mask = inputs["attention_mask"].unsqueeze(-1).float()
    return (hidden * mask).sum(1) / mask.sum(1)


def collate(encoder, films):
    preprocessor = encoder.preprocessor()
    return {k: torch.from_numpy(v) for k, v in preprocessor.collate(preprocessor.prepare(films)).items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_frozen_part_of_any_family_stays_and_all_above_it_learns(folders, family):
    encoder = ENCODERS["transformer"](source=str(folders[family]), max_tokens=40, freeze_layers=1).train()
    inputs = some_inputs()
    groups = encoder.parameter_groups(1e-3, 0.5, 0.01)
    learned = {id(parameter) for group in groups for parameter in group["params"]}
    assert learned == {id(parameter) for parameter in encoder.parameters() if parameter.requires_grad}
    assert sum(len(group["params"]) for group in groups) == len(learned)
    if family == "albert":  # its one layer is frozen, and nothing is left
        assert groups == []
        return
    encoder(**inputs).pow(2).sum().backward()
    assert all((parameter.grad is not None) == (id(parameter) in learned) for parameter in encoder.parameters())
    names = {name for name, parameter in encoder.named_parameters() if id(parameter) in learned}
    assert names and not any("embed" in name and "layer" not in name for name in names)


@pytest.mark.parametrize("layers", [None, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_graph_of_any_family_is_the_mean_of_its_last_hidden_states(folders, family, layers, tmp_path):
    if family == "albert" and layers == 2:
        pytest.skip("it has one layer, which it runs many times")
    encoder = ENCODERS["transformer"](source=str(folders[family]), max_tokens=40, freeze_layers=layers).eval()
    inputs = some_inputs()
    with torch.no_grad():
        expected = mean_of(AutoModel.from_pretrained(folders[family]).eval(), inputs).numpy()
    export_encoder(encoder, tmp_path / "plot.onnx")
    session = ort.InferenceSession(tmp_path / "plot.onnx", providers=["CPUExecutionProvider"])
    (features,) = session.run(["features"], {name: value.numpy() for name, value in inputs.items()})
    assert encoder.width == expected.shape[1]
    assert np.abs(features - expected).max() < 1e-5


def test_padding_does_not_change_a_plots_features(films):
    encoder = ENCODERS["transformer"]().eval()
    with torch.no_grad():
        together = encoder(**collate(encoder, films))
        alone = torch.cat([encoder(**collate(encoder, [film])) for film in films])
    assert torch.allclose(together, alone, atol=1e-5)


def test_frozen_layers_have_no_dropout_and_the_others_do(films):
    inputs = collate(ENCODERS["transformer"](), films)
    for layers, same in ((6, True), (3, False)):
        encoder = ENCODERS["transformer"](freeze_layers=layers, dropout=0.0).train()
        assert torch.equal(encoder(**inputs), encoder(**inputs)) is same


def test_every_layer_learns_slower_than_the_one_above_it_and_embeddings_slowest():
    encoder = ENCODERS["transformer"](freeze_layers=None)
    rates: dict[str, float] = {}
    for group in encoder.parameter_groups(1.0, 0.5, 0.01):
        names = {id(parameter): name for name, parameter in encoder.named_parameters()}
        for parameter in group["params"]:
            part = names[id(parameter)].removeprefix("model.encoder.layer.").removeprefix("model.").split(".")[0]
            rates[part] = group["lr"]
    assert rates == {"embeddings": 0.5**6, **{str(layer): 0.5 ** (5 - layer) for layer in range(6)}}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"freeze_layers": 7}, "freeze_layers is 7, .* only 6 layers"),
        ({"max_tokens": 513}, "reads at most 512 tokens"),
        ({"source": "/nowhere/at-all"}, "cannot be loaded .*; give a folder or a hub name"),
    ],
)
def test_what_an_encoder_cannot_do_is_refused_in_one_line(options, message):
    with pytest.raises(UsageError, match=message) as caught:
        ENCODERS["transformer"](**options)
    assert "\n" not in str(caught.value)


def test_damaged_weights_are_refused_in_one_line(tmp_path, folders):
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((folders["bert"] / name).read_bytes())
    (tmp_path / "model.safetensors").write_bytes((folders["bert"] / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(UsageError, match=r"cannot be loaded \(.+\); give a folder") as caught:
        ENCODERS["transformer"](source=str(tmp_path), max_tokens=40)
    assert "\n" not in str(caught.value)


def test_a_model_that_reads_no_plots_is_refused(tmp_path, folders):
    config = AutoConfig.for_model("vit", hidden_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=32)
    AutoModel.from_config(config).save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes((folders["bert"] / "tokenizer.json").read_bytes())
    with pytest.raises(UsageError, match=r"ViTModel.* does not take token ids and a mask"):
        ENCODERS["transformer"](source=str(tmp_path), max_tokens=40)


def test_a_tokenizer_is_made_of_an_older_vocabulary_file_and_needed(tmp_path, folders):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folders["bert"] / name).read_bytes())
    with pytest.raises(UsageError, match="has no fast tokenizer") as caught:
        ENCODERS["transformer"](source=str(tmp_path), max_tokens=40)
    assert "\n" not in str(caught.value)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "wolves", "##s", "."]
    (tmp_path / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    encoder = ENCODERS["transformer"](source=str(tmp_path), max_tokens=40)
    (prepared,) = encoder.preprocessor().prepare([Film(plot="Wolves.")])
    assert prepared.value.tolist() == [2, 5, 7, 3]
