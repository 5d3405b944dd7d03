"""The models, each held to its published behaviour and to its own promises."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

import mmgcs
from mmgcs.errors import UsageError
from mmgcs.export import open_stem
from mmgcs.models import ENCODERS, FUSIONS, SourceHead, linear_schedule_groups
from mmgcs.models.efficientnet_lite import packaged_weights


def test_layer_decay_gives_the_lowest_layer_the_smallest_rate():
    groups = linear_schedule_groups(
        [torch.nn.Linear(2, 2) for _ in range(3)], lr=1.0, layer_decay=0.5, weight_decay=0.1
    )
    assert [group["lr"] for group in groups] == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0] * 3


def test_efficientnet_lite_equals_the_published_implementation():
    published = pytest.importorskip("efficientnet_lite_pytorch")
    reference = published.EfficientNet.from_name("efficientnet-lite0")
    reference.load_state_dict(torch.load(packaged_weights("lite0"), weights_only=True))
    reference.eval()
    encoder = ENCODERS["efficientnet_lite"](height=224, width_px=224).eval()
    inputs = encoder.example(2)
    with torch.no_grad():
        pixels = (inputs["pixels"].permute(0, 3, 1, 2).float() - 127.0) / 128.0
        expected = reference.extract_features(pixels).mean((2, 3))
        assert torch.allclose(encoder(**inputs), expected, atol=1e-4)


def test_efficientnet_lite_continues_from_a_bundle(tiny_bundle):
    bundle = mmgcs.load().bundle
    graph = next(branch.graph for branch in bundle.config.branches if branch.kind == "pixels")
    encoder = ENCODERS["efficientnet_lite"](weights="default").eval()
    inputs = encoder.example(1)
    with torch.no_grad():
        features = encoder(**inputs).numpy()
    session = onnxruntime.InferenceSession(bundle.read(graph))
    (expected,) = session.run(None, {"pixels": inputs["pixels"].numpy()})
    assert np.abs(expected).max() > 0.1
    assert np.allclose(features, expected, atol=1e-4)
    for folder, variant in ((tiny_bundle, "lite0"), (bundle.path, "lite2")):
        with pytest.raises(UsageError, match=f"does not hold an EfficientNet-{variant}"):
            ENCODERS["efficientnet_lite"](weights=str(folder), variant=variant)


@pytest.mark.parametrize(("freeze_until", "stages"), [("stem", 0), (3, 3), ("head", 8)])
def test_frozen_stages_and_batchnorm_statistics_stay_as_they_were(freeze_until, stages):
    encoder = ENCODERS["efficientnet_lite"](height=64, width_px=48, freeze_until=freeze_until, weights="none").train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    if trained:
        optimizer = torch.optim.SGD(trained, lr=0.1)
        encoder(**encoder.example(4)).sum().backward()
        optimizer.step()
    after = encoder.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert not any("running" in name for name in changed)
    assert not any(name.startswith(f"blocks.{stage}.") for stage in range(stages) for name in changed)
    assert {name.split(".")[1] for name in changed if name.startswith("blocks.")} == set(map(str, range(stages, 8)))
    assert any(name.startswith("head.") for name in changed) == (stages < 8)
    assert encoder.frozen_share() == stages / 8


@pytest.mark.parametrize("stage", ["stage8", 9])
def test_an_unknown_stage_is_refused_with_the_known_ones(stage):
    with pytest.raises(UsageError, match=r"known: stem, stage1, .*stage7, head, or 0 to 8"):
        ENCODERS["efficientnet_lite"](freeze_until=stage, weights="none")


def heads(genres=4, widths=(5, 7)):
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(genres, width, generator=generator), torch.randn(genres, generator=generator)) for width in widths
    ]


def test_gated_fusion_begins_as_the_single_heads():
    given = heads()
    fusion = FUSIONS["gated"](given).eval()
    features = [torch.randn(3, 5), torch.randn(3, 7)]
    for branch, (weight, bias) in enumerate(given):
        present = torch.zeros(3, 2)
        present[:, branch] = 1.0
        assert torch.allclose(fusion(features, present), features[branch] @ weight.T + bias, atol=1e-5)


def test_the_values_of_a_missing_input_do_not_matter():
    fusion = FUSIONS["gated"](heads()).eval()
    torch.nn.init.normal_(fusion.out.weight)
    plot = torch.randn(3, 5)
    present = torch.tensor([[1.0, 0.0]]).repeat(3, 1)
    one = fusion([plot, torch.zeros(3, 7)], present)
    other = fusion([plot, 100.0 * torch.randn(3, 7)], present)
    assert torch.allclose(one, other, atol=1e-5)


def test_the_target_sources_own_linear_layer_answers_as_the_head_does():
    head = SourceHead(width=6, genres=3, sources=2, target=1)
    torch.nn.init.normal_(head.weight)
    torch.nn.init.normal_(head.bias)
    features = torch.randn(4, 6)
    weight, bias = head.target_linear()
    logits = head(features, torch.ones(4, dtype=torch.int64))
    assert np.allclose((features @ weight.T + bias).numpy(), logits.detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("kind", ["efficientnet_lite", "resnet18"])
def test_a_stem_computed_by_onnxruntime_is_that_of_torch(kind):
    encoder = ENCODERS[kind](weights="none", height=64, width_px=48).eval()
    pixels = torch.randint(0, 256, (3, 64, 48, 3), dtype=torch.uint8)
    with torch.no_grad():
        expected = encoder.stem({"pixels": pixels})
    found = torch.from_numpy(open_stem(encoder)({"pixels": pixels.numpy()}))
    assert torch.allclose(found, expected, atol=1e-4 * float(expected.abs().max()))
