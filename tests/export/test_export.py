"""Graphs answer as the torch modules that they were made from."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
import torch

from mmgcs.export import export_encoder, export_fusion, quantize_dynamic, quantize_static
from mmgcs.film import Film
from mmgcs.models import ENCODERS, FUSIONS
from mmgcs.sample import sample_films


def run(path, inputs):
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, inputs)[0]


@pytest.fixture(scope="module")
def plots() -> list[Film]:
    texts = ["A spy is betrayed.", "A farmer dreams of leaving the valley where nothing ever happens.", "Ghosts! " * 60]
    return [Film(plot=text, title=title) for text, title in zip(texts, ("Nine Lives", None, "Boo"), strict=True)]


def test_an_int8_text_graph_is_a_quarter_the_size_and_points_the_same_way(plots, tmp_path):
    encoder = ENCODERS["transformer"]().eval()
    export_encoder(encoder, tmp_path / "plot.onnx")
    quantize_dynamic(tmp_path / "plot.onnx", tmp_path / "int8.onnx")
    assert (tmp_path / "int8.onnx").stat().st_size < 0.3 * (tmp_path / "plot.onnx").stat().st_size
    preprocessor = encoder.preprocessor()
    inputs = preprocessor.collate(preprocessor.prepare(plots))
    exact, small = run(tmp_path / "plot.onnx", inputs), run(tmp_path / "int8.onnx", inputs)
    cosine = (exact * small).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(small, axis=1)
    assert cosine.min() > 0.97


def test_one_huge_channel_of_activations_does_not_spoil_an_int8_text_graph(plots, tmp_path):
    torch.manual_seed(1)
    encoder = ENCODERS["transformer"]().eval()
    with torch.no_grad():
        for layer in encoder.model.encoder.layer:  # as in trained transformers
            layer.attention.output.LayerNorm.weight[7] *= 80.0
    export_encoder(encoder, tmp_path / "plot.onnx")
    preprocessor = encoder.preprocessor()
    inputs = preprocessor.collate(preprocessor.prepare(plots))
    exact = run(tmp_path / "plot.onnx", inputs)
    far = {}
    for name, batches in {"plain": [], "smooth": [inputs]}.items():
        quantize_dynamic(tmp_path / "plot.onnx", tmp_path / f"{name}.onnx", batches)
        far[name] = np.abs(run(tmp_path / f"{name}.onnx", inputs) - exact).mean()
    # Half as far on processors that clip large sums; those with VNNI lose less without smoothing, too.
    assert far["smooth"] < 0.95 * far["plain"]


def test_a_poster_graph_equals_torch_and_its_int8_form_points_the_same_way(tmp_path):
    encoder = ENCODERS["efficientnet_lite"](height=128, width_px=96).eval()
    export_encoder(encoder, tmp_path / "poster.onnx")
    preprocessor = encoder.preprocessor()
    prepared = preprocessor.prepare([film for film in sample_films() if film.poster is not None][:12])
    inputs = preprocessor.collate(prepared[:4])
    with torch.no_grad():
        expected = encoder(torch.from_numpy(inputs["pixels"])).numpy()
    exact = run(tmp_path / "poster.onnx", inputs)
    assert np.abs(exact - expected).max() < 1e-3
    batches = (preprocessor.collate([item]) for item in prepared[4:])
    quantize_static(tmp_path / "poster.onnx", tmp_path / "int8.onnx", batches)
    small = run(tmp_path / "int8.onnx", inputs)
    cosine = (exact * small).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(small, axis=1)
    assert cosine.min() > 0.8
    assert (tmp_path / "int8.onnx").stat().st_size < 0.4 * (tmp_path / "poster.onnx").stat().st_size


@pytest.mark.parametrize("kind", ["linear", "gated"])
def test_a_fusion_graph_equals_torch_whichever_inputs_are_present(kind, tmp_path):
    torch.manual_seed(3)
    fusion = FUSIONS[kind]([(torch.randn(4, 5), torch.randn(4)), (torch.randn(4, 7), torch.randn(4))]).eval()
    export_fusion(fusion, ["plot", "poster"], [5, 7], tmp_path / "fusion.onnx")
    features = [torch.randn(3, 5), torch.randn(3, 7)]
    present = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    with torch.no_grad():
        expected = fusion(features, present).numpy()
    inputs = {"plot": features[0].numpy(), "poster": features[1].numpy(), "present": present.numpy()}
    assert np.abs(run(tmp_path / "fusion.onnx", inputs) - expected).max() < 1e-5
