from __future__ import annotations

import io
import json
import math
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from mmgcs import Film, load
from mmgcs.bundle import seal
from mmgcs.cli import main
from mmgcs.errors import InputError, UsageError
from mmgcs.runtime import MAX_PASSES, explain, explanation_page, read_poster, to_png

PLOT = "A detective hunts a ghost in the village"


@pytest.fixture(scope="module")
def poster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("poster") / "half.png"
    pixels = np.zeros((96, 64, 3), dtype=np.uint8)
    pixels[:48] = (250, 30, 30)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module")
def attentive(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with an attention output: every word gets the same share."""
    path = tmp_path_factory.mktemp("attentive") / "bundle"
    shutil.copytree(tiny_bundle, path)
    graph = onnx.load(path / "plot.onnx")
    graph.graph.node.append(helper.make_node("Div", ["mask", "count"], ["attention"]))
    graph.graph.output.append(helper.make_tensor_value_info("attention", TensorProto.FLOAT, ["B", "L"]))
    onnx.save(graph, path / "plot.onnx")
    seal(path)
    return path


def test_the_words_that_say_a_genre_are_named_first(tiny_bundle: Path) -> None:
    why = explain(load(tiny_bundle), PLOT, ["Horror", "Crime"])
    assert [word for word, _ in why.words("Horror", 1)] == ["ghost"]
    assert [word for word, _ in why.words("Crime", 1)] == ["detective"]
    assert why.inputs == {}


def log_odds(probability: float) -> float:
    return math.log(probability / (1 - probability))


def test_a_drop_is_what_the_log_odds_lose_without_the_word(tiny_bundle: Path) -> None:
    classifier = load(tiny_bundle)
    (ghost,) = (s for s in explain(classifier, Film(plot=PLOT), ["Horror"]).spans if PLOT[s.start : s.end] == "ghost")
    before = classifier.predict(plot=PLOT).probabilities["Horror"]
    after = classifier.predict(plot=PLOT.replace("ghost", "")).probabilities["Horror"]
    assert ghost.drops["Horror"] == pytest.approx(log_odds(before) - log_odds(after), abs=1e-3)


def test_each_input_has_a_signed_contribution_to_each_genre(tiny_bundle: Path, poster: Path) -> None:
    classifier = load(tiny_bundle)
    why = explain(classifier, Film(plot=PLOT, poster=poster))
    plot_alone = classifier.predict(plot=PLOT).probabilities
    for genre in why.genres:
        regions = np.array(why.regions[genre])
        # The model sees the mean colour: painting a region in its mean changes nothing.
        assert regions.shape == (5, 4) and np.abs(regions).max() < 0.1
        assert set(why.inputs[genre]) == {"plot", "poster"}
        without = log_odds(why.prediction.probabilities[genre]) - log_odds(plot_alone[genre])
        assert why.inputs[genre]["poster"] == pytest.approx(without, abs=1e-3)


@pytest.mark.parametrize("words", [1, 5, 39, 200])
def test_no_explanation_takes_more_than_the_stated_passes(tiny_bundle: Path, poster: Path, words: int) -> None:
    plot = " ".join(["ghost", *["village"] * (words - 1)])
    for film in (Film(plot=plot), Film(plot=plot, poster=poster)):
        why = explain(load(tiny_bundle), film, ["Horror"])
        assert why.passes <= MAX_PASSES
        assert " ".join(why.text[span.start : span.end] for span in why.spans) == plot


def test_attention_is_shown_where_the_bundle_has_it_and_called_attention(
    attentive: Path, tiny_bundle: Path, capsys
) -> None:
    assert explain(load(tiny_bundle), Film(plot=PLOT)).attention == ()
    why = explain(load(attentive), Film(plot=PLOT))
    assert [one.word for one in why.attention][:2] == ["a", "detective"]
    assert sum(one.weight for one in why.attention) == pytest.approx(1.0, abs=1e-3)
    assert main(["explain", "--plot", PLOT, "--model", str(attentive)]) == 0
    assert "Attention (where the model looked, not necessarily why)" in capsys.readouterr().out


def test_what_cannot_be_explained_is_refused(tiny_bundle: Path) -> None:
    classifier = load(tiny_bundle)
    with pytest.raises(InputError, match="nothing to predict from"):
        explain(classifier, Film())
    with pytest.raises(UsageError, match=r"no genre 'Horor'; did you mean 'Horror'\?"):
        explain(classifier, Film(plot="A ghost in a house."), ["Horor"])
    with pytest.raises(UsageError, match="no genre 'Opera'"):
        explain(classifier, Film(plot=PLOT), ["Opera"])


def test_the_commands_print_text_and_json(tiny_bundle: Path, capsys) -> None:
    model = ["--model", str(tiny_bundle)]
    assert main(["explain", "--plot", PLOT, "--genre", "Horrorfilm", *model]) == 0
    assert "ghost" in capsys.readouterr().out
    assert main(["predict", "--plot", PLOT, "--explain", "--json", *model]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["explanation"]["genres"] == value["genres"]
    assert main(["explain", *model]) == 2


def test_pictures_are_whole_and_plots_in_them_are_only_text(
    tiny_bundle: Path, poster: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classifier = load(tiny_bundle)
    film = Film(plot=f"{PLOT} <script>alert(1)</script> & more", poster=poster)
    why = explain(classifier, film)
    page = explanation_page(why, read_poster(classifier, film))
    assert "<script" not in page and page.count("<img ") == len(why.genres)
    picture = Image.open(io.BytesIO(to_png(why, read_poster(classifier, film))))
    assert picture.width == 900 and len(picture.getcolors(1 << 24) or []) > 10
    command = ["explain", "--plot", PLOT, "--poster", str(poster), "--model", str(tiny_bundle)]
    assert main([*command, "--html", str(tmp_path / "why.html"), "--png", str(tmp_path / "why.png")]) == 0
    assert (tmp_path / "why.html").stat().st_size > 1000 and (tmp_path / "why.png").stat().st_size > 1000

    for option, name in (("--html", "why.html"), ("--png", "why.png")):
        again = [*command, option, str(tmp_path / name)]
        assert main(again) == 2
        assert f"{name} exists; give --overwrite to replace it, or another {option}" in capsys.readouterr().err
        assert main([*again, "--overwrite"]) == 0
