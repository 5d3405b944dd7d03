"""ResNet-18: the published network, and what of it is trained."""

from __future__ import annotations

import functools
import http.server
import threading

import pytest
import torch
from safetensors.torch import save_file

from mmgcs.errors import MmgcsError, UsageError
from mmgcs.models import ENCODERS


@pytest.fixture(scope="module")
def published():
    """Weights in torchvision's layout: 62 tensors of these names, with the classifier `fc`."""
    torch.manual_seed(0)
    encoder = ENCODERS["resnet18"](weights="none")
    weights = {key: value.clone() for key, value in encoder.state_dict().items() if not key.startswith("project.")}
    return {**weights, "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}


def test_it_computes_what_transformers_own_resnet_computes(published):
    from transformers import ResNetConfig, ResNetModel

    config = ResNetConfig(layer_type="basic", hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2])
    theirs = ResNetModel(config).eval()
    ours = ENCODERS["resnet18"](weights="none", train_from="conv1").eval()
    ours.load_state_dict(published, strict=False)
    # Both list their layers from the picture on, a shortcut last in ours and first in theirs: pair them by shape.
    renamed = {}
    for key in theirs.state_dict():
        name = key.replace("embedder.embedder.convolution", "conv1").replace("embedder.embedder.normalization", "bn1")
        for stage in range(4):
            name = name.replace(f"encoder.stages.{stage}.layers.", f"layer{stage + 1}.")
        name = name.replace("layer.0.convolution", "conv1").replace("layer.0.normalization", "bn1")
        name = name.replace("layer.1.convolution", "conv2").replace("layer.1.normalization", "bn2")
        name = name.replace("shortcut.convolution", "downsample.0").replace("shortcut.normalization", "downsample.1")
        renamed[key] = published[name]
    theirs.load_state_dict(renamed)
    pixels = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    x = (pixels.permute(0, 3, 1, 2).float() - ours.mean) / ours.std
    with torch.no_grad():
        expected = theirs(x).last_hidden_state
        hidden = x
        for stage in ours.stages():
            hidden = stage(hidden)
    assert torch.allclose(hidden, expected, atol=1e-4)


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_weights_come_from_a_file(published, tmp_path, ending):
    path = tmp_path / f"resnet{ending}"
    save_file(published, path) if ending == ".safetensors" else torch.save(published, path)
    encoder = ENCODERS["resnet18"](weights=str(path))
    assert torch.equal(encoder.layer3[0].conv1.weight, published["layer3.0.conv1.weight"])


def test_weights_come_from_an_address(published, tmp_path, monkeypatch):
    torch.save(published, tmp_path / "resnet.pth")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        encoder = ENCODERS["resnet18"](weights=f"{base}/resnet.pth")
        with pytest.raises(MmgcsError, match="could not be downloaded") as refused:
            ENCODERS["resnet18"](weights=f"{base}/missing.pth")
        assert f"download {base}/missing.pth on a machine with a network and give the file with" in str(refused.value)
        assert "--set poster.encoder.options.weights=FILE" in str(refused.value)
        server.shutdown()
    assert torch.equal(encoder.conv1.weight, published["conv1.weight"])


def test_a_file_that_is_no_resnet_is_refused_plainly(published, tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        ENCODERS["resnet18"](weights=str(tmp_path / "none.pth"))
    torch.save({"conv1.weight": published["conv1.weight"]}, tmp_path / "part.pth")
    with pytest.raises(UsageError, match=r"not a ResNet-18: it has no bn1"):
        ENCODERS["resnet18"](weights=str(tmp_path / "part.pth"))
    (tmp_path / "text.pth").write_text("hello", encoding="utf-8")
    with pytest.raises(UsageError, match="holds no weights"):
        ENCODERS["resnet18"](weights=str(tmp_path / "text.pth"))
    torch.save({"state_dict": published, "epoch": 3}, tmp_path / "checkpoint.pth")
    with pytest.raises(UsageError, match="is not a state_dict; save that of the model alone"):
        ENCODERS["resnet18"](weights=str(tmp_path / "checkpoint.pth"))
    torch.save({**published, "conv1.weight": torch.zeros(64, 1, 7, 7)}, tmp_path / "grey.pth")
    with pytest.raises(UsageError, match="does not fit a ResNet-18"):
        ENCODERS["resnet18"](weights=str(tmp_path / "grey.pth"))
    with pytest.raises(UsageError, match=r"known: conv1, bn1, layer1"):
        ENCODERS["resnet18"](weights="none", train_from="layer9")


def test_only_the_last_layer_and_the_head_are_trained():
    encoder = ENCODERS["resnet18"](weights="none", height=64, width_px=64).train()
    inputs = encoder.example(4)
    before = encoder.layer3[1].bn2.running_mean.clone()
    encoder.tail(encoder.stem(inputs), inputs).sum().backward()
    graded = {name.split(".")[0] for name, parameter in encoder.named_parameters() if parameter.grad is not None}
    assert graded == {"layer4", "project"}
    assert torch.equal(encoder.layer3[1].bn2.running_mean, before)
    trained = [p for group in encoder.parameter_groups(1e-3, 1.0, 0.0) for p in group["params"]]
    assert {id(p) for p in trained} == {id(p) for n, p in encoder.named_parameters() if n[:6] in ("layer4", "projec")}
