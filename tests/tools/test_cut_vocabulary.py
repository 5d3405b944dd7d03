"""An encoder's vocabulary is cut to the pieces that are used, and reads texts of those pieces as before."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModel, BertConfig, BertModel

from mmgcs.film import Film
from mmgcs.models import ENCODERS

TOOL = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "cut_vocabulary.py"))
KEPT = ["Ein Dieb kehrt nachts zurück.", "Un voleur revient la nuit."]
LETTERS = sorted(set("".join(KEPT)) - {" "})
PIECES = ["▁", *LETTERS, "▁Die", "▁Dieb", "▁nacht", "▁unused", "▁vol", "eur", "▁never", "▁la", "▁re", "vient"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A tiny encoder with a tokenizer of the XLM-R kind, whose mask token stands after the model's pieces."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    vocabulary = [(piece, -float(index)) for index, piece in enumerate([*special, *PIECES])]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=3, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.add_special_tokens([*special, "<mask>"])
    folder = tmp_path / "source"
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    config = BertConfig(vocab_size=len(vocabulary) + 1, pad_token_id=1, max_position_embeddings=64, **size)
    BertModel(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def test_kept_texts_give_the_same_hidden_states(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "cut"
    before, after = TOOL["cut"](str(source), out, KEPT * 3, at_least=3)
    assert after < before == len(PIECES) + 5
    old, new = (Tokenizer.from_file(str(folder / "tokenizer.json")) for folder in (source, out))
    assert set(old.get_vocab()) - set(new.get_vocab()) >= {"▁unused", "▁never"}
    assert {"<s>", "<pad>", "</s>", "<unk>", "<mask>"} <= set(new.get_vocab())
    assert new.get_vocab_size() == after
    whole, cut = (AutoModel.from_pretrained(folder).eval() for folder in (source, out))
    assert cut.config.pad_token_id == new.token_to_id("<pad>")
    for text in KEPT:
        first, second = old.encode(text), new.encode(text)
        assert first.tokens == second.tokens and "<unk>" not in first.tokens
        with torch.no_grad():
            states = [
                model(torch.tensor([ids])).last_hidden_state for model, ids in ((whole, first.ids), (cut, second.ids))
            ]
        torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)


def test_the_cut_folder_is_an_encoder_for_recipes_and_words_come_without_marks(source: Path, tmp_path: Path) -> None:
    TOOL["cut"](str(source), tmp_path / "cut", KEPT * 3, at_least=3)
    encoder = ENCODERS["transformer"](source=str(tmp_path / "cut"), max_tokens=32)
    preprocessor = encoder.preprocessor()
    (prepared,) = preprocessor.prepare([Film(plot=KEPT[0])])
    words = preprocessor.words(prepared)
    assert (words[0], words[-1]) == ("<s>", "</s>")
    assert "Dieb" in words and not any("▁" in word for word in words)


def test_pieces_of_the_train_split_alone_are_kept(tmp_path: Path) -> None:
    table = tmp_path / "films.csv"
    table.write_text("id,title,plot,split\na,One,A thief.,train\nb,Two,A ghost.,test\n", encoding="utf-8")
    assert list(TOOL["film_texts"]([table])) == ["One. A thief."]
