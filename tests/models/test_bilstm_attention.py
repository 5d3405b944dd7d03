"""The recurrent encoder: what it computes, and that its graph computes the same."""

from __future__ import annotations

import gzip

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mmgcs.errors import MmgcsError, UsageError
from mmgcs.export import export_encoder
from mmgcs.film import Film
from mmgcs.models import ENCODERS

TEXTS = [
    "A thief plans one last robbery in Paris, but the police know.",
    "Two dancers fall in love during a long summer of rehearsals, rivals and rain.",
    "Wolves.",
    "A thief, a dancer and a wolf.",
]


@pytest.fixture
def glove(tmp_path):
    path = tmp_path / "vectors.txt.gz"
    random = np.random.default_rng(0)
    words = "a the thief wolves love paris . ,".split()
    with gzip.open(path, "wt", encoding="utf-8") as handle:
        for word in words:
            handle.write(f"{word} {' '.join(f'{x:.4f}' for x in random.normal(size=12))}\n")
    return path


def made(**options):
    torch.manual_seed(0)
    encoder = ENCODERS["bilstm_attention"](**{"tune": True, "dimension": 12, "hidden": 8, **options})
    encoder.learn_words(TEXTS)
    return encoder.eval()


def collate(encoder, texts):
    preprocessor = encoder.preprocessor()
    return preprocessor.collate(preprocessor.prepare([Film(plot=text) for text in texts]))


def tensors(encoder, texts):
    return {name: torch.from_numpy(value) for name, value in collate(encoder, texts).items()}


def test_the_graph_equals_the_model_for_batches_of_unequal_lengths(tmp_path):
    encoder = made()
    export_encoder(encoder, tmp_path / "graph.onnx")
    session = ort.InferenceSession(tmp_path / "graph.onnx")
    for texts in (TEXTS, TEXTS[:1], TEXTS[2:3], TEXTS[1:3], TEXTS * 5, [" ".join(TEXTS), *TEXTS]):
        inputs = collate(encoder, texts)
        features, attention = session.run(["features", "attention"], inputs)
        with torch.no_grad():
            expected = encoder(*map(torch.from_numpy, inputs.values()))
        assert np.allclose(features, expected[0], atol=1e-6)
        assert np.allclose(attention, expected[1], atol=1e-6)


def test_what_the_graph_reads_backwards_is_what_packed_sequences_give():
    encoder = made()
    inputs = tensors(encoder, TEXTS)
    mask = inputs["attention_mask"]
    with torch.no_grad():
        vectors = encoder.stem(inputs)
        sequences = pack_padded_sequence(vectors, mask.sum(1), batch_first=True, enforce_sorted=False)
        packed, _ = pad_packed_sequence(encoder.lstm(sequences)[0], batch_first=True)
        plain = encoder._states(vectors, mask.sum(1))
    inside = mask.bool()
    assert torch.allclose(packed[inside], plain[inside], atol=1e-6)


def test_attention_is_a_share_of_every_word_and_nothing_for_padding():
    encoder = made()
    inputs = tensors(encoder, TEXTS)
    with torch.no_grad():
        _, attention = encoder(**inputs)
    assert torch.allclose(attention.sum(1), torch.ones(len(TEXTS)))
    assert (attention[inputs["attention_mask"] == 0] == 0).all()
    assert (attention[inputs["attention_mask"] == 1] > 0).all()


def test_the_vocabulary_keeps_the_commonest_words_and_tells_unknown_from_padding():
    encoder = made(vocabulary=3)
    inputs = collate(encoder, ["a thief zzz", "a"])
    assert inputs["input_ids"][0].tolist()[0] >= 2
    assert inputs["input_ids"][0].tolist()[2] == 1  # unknown
    assert inputs["input_ids"][1].tolist()[1:] == [0, 0]  # padding
    assert encoder.embedding.num_embeddings == 5


@pytest.mark.parametrize("tune", [False, True])
def test_words_take_their_vectors_from_the_file(glove, tune):
    encoder = made(glove=str(glove), tune=tune)
    vocabulary = encoder.preprocessor()._tokenizer.get_vocab()
    with gzip.open(glove, "rt", encoding="utf-8") as handle:
        expected = {line.split()[0]: np.array(line.split()[1:], dtype=np.float32) for line in handle}
    weight = encoder.embedding.weight.detach().numpy()
    assert encoder.dimension == 12
    for word in ("thief", "wolves", "love"):
        assert np.array_equal(weight[vocabulary[word]], expected[word])
    assert (weight[0] == 0).all()
    assert bool((weight[vocabulary["robbery"]] != 0).any()) is tune
    assert encoder.embedding.weight.requires_grad is tune


def test_unreadable_word_vectors_get_a_clear_error(tmp_path, glove):
    with pytest.raises(UsageError, match="give `glove` or `tune: true`"):
        ENCODERS["bilstm_attention"]()
    with pytest.raises(UsageError, match="mmgcs data glove"):
        ENCODERS["bilstm_attention"](glove=str(tmp_path / "none.txt"))
    broken = tmp_path / "broken.txt"
    broken.write_text("a 1 2 3\nthief 1 2\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"broken.txt line 2 is not a word and 3 numbers"):
        made(glove=str(broken))
    foreign = tmp_path / "foreign.txt"
    foreign.write_text("zug 1 2 3\n", encoding="utf-8")
    with pytest.raises(MmgcsError, match="none of the plots' words"):
        made(glove=str(foreign))
    glove.write_bytes(glove.read_bytes()[:50])
    with pytest.raises(UsageError, match="give a complete"):
        made(glove=str(glove))
