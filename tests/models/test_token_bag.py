from dataclasses import replace

import numpy as np
import pytest
import torch

from mmgcs.film import Film
from mmgcs.models import TokenBagEncoder, TokenEncoder
from mmgcs.training.bag import add_bag
from mmgcs.training.labelled import Labelled


class Counted(TokenEncoder):
    """An encoder that knows nothing but how long a plot is."""

    width = 1

    def forward(self, input_ids, attention_mask):
        return attention_mask.sum(1, keepdim=True).float()


def test_the_bag_adds_the_logits_of_a_tf_idf_vector_of_unit_length():
    idf, weight, bias = torch.tensor([0.0, 1.0, 2.0]), torch.randn(3, 4), torch.randn(4)
    bag = TokenBagEncoder(Counted(), idf, weight, bias)
    ids = torch.tensor([[1, 2, 2, 0], [2, 0, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]])
    features = bag(ids, mask)
    first = torch.tensor([0.0, 1.0, 4.0]) / 9**0.5  # squared lengths 1 + 4 + 4: each occurrence counts by itself
    expected = torch.stack([first @ weight, torch.tensor([0.0, 0.0, 1.0]) @ weight]) + bias
    assert bag.width == 5
    assert torch.allclose(features[:, 0], mask.sum(1).float())
    assert torch.allclose(features[:, 1:], expected, atol=1e-5)


@pytest.fixture
def told_by_one_word():
    """Films whose genre stands in one word of their plot."""
    random = np.random.default_rng(0)
    filler = "the a man woman goes home city night day river".split()
    words = [("ghost", 0), ("joke", 1)]
    films, truth = [], np.zeros((120, 2), dtype=bool)
    for index in range(120):
        word, genre = words[index % 2]
        films.append(Film(id=str(index), plot=" ".join([*random.choice(filler, 8), word])))
        truth[index, genre] = True
    zeros = np.zeros(120, dtype=np.int64)
    split = np.array(["train"] * 80 + ["valid"] * 40)
    return Labelled(films, ("Horror", "Comedy"), truth, np.ones_like(truth), split, ("tmdb",), zeros, "0")


def counted(data, max_tokens):
    encoder = Counted(vocabulary=100, max_tokens=max_tokens)
    encoder.learn_words([film.plot for film in data.films])
    return encoder.eval()


def test_a_bag_helps_a_head_that_knows_nothing(told_by_one_word):
    data = told_by_one_word
    encoder = counted(data, 32)
    head = torch.zeros(2, encoder.width), torch.zeros(2)
    rows, valid = np.arange(80), np.arange(80, 120)
    module, (weight, bias), share, score = add_bag(encoder, head, data, rows, valid, np.ones(80, dtype=np.float32))
    assert share > 0
    assert score == 1.0
    assert weight.shape == (2, encoder.width + 2)
    assert bias.shape == (2,)
    assert module.preprocessor().max_tokens == 32


def test_a_genre_that_no_training_film_has_is_left_to_the_encoder(told_by_one_word):
    data, rows, valid = told_by_one_word, np.arange(80), np.arange(80, 120)
    truth = data.truth.copy()
    truth[rows, 0] = False
    head, weights = (torch.zeros(2, 1), torch.zeros(2)), np.ones(80, dtype=np.float32)
    module, *_ = add_bag(counted(data, 32), head, replace(data, truth=truth), rows, valid, weights)
    assert module.table.weight[:, :2].any(0).tolist() == [False, True]


def test_a_bag_does_not_learn_from_unknown_labels(told_by_one_word):
    data = told_by_one_word
    rows, valid, weights = np.arange(80), np.arange(80, 120), np.ones(80, dtype=np.float32)
    head = torch.zeros(2, 1), torch.zeros(2)
    # Half of the ghosts come from a source that does not know Horror, so that it is missing and unknown.
    silent = np.arange(0, 80, 4)
    truth, known = data.truth.copy(), data.known.copy()
    truth[silent, 0] = known[silent, 0] = False
    tables = {}
    for name, masked in (("unknown", replace(data, truth=truth, known=known)), ("no", replace(data, truth=truth))):
        module, *_ = add_bag(counted(data, 32), head, masked, rows, valid, weights)
        ghost = counted(data, 32).tokenizer.token_to_id("ghost")
        tables[name] = float(module.table.weight[ghost, 0])
    assert tables["unknown"] > tables["no"] + 0.5
