import pytest
import torch

from mmgcs.models import ENCODERS, MemberEncoder, join_heads


def encoders(count, **options):
    found = []
    for seed in range(count):
        torch.manual_seed(seed)
        found.append(ENCODERS["bilstm_attention"](tune=True, dimension=6, hidden=5, **options))
    for encoder in found:
        encoder.learn_words(["a ghost in the house", "a joke in the house"])
    return [encoder.eval() for encoder in found]


def test_the_joined_head_says_the_mean_of_what_the_members_say():
    members = encoders(3)
    heads = [(torch.randn(4, 10), torch.randn(4)) for _ in members]
    joined = MemberEncoder(members).eval()
    weight, bias = join_heads(heads)
    inputs = members[0].example(2)
    each = [encoder(**inputs)[0] @ head[0].T + head[1] for encoder, head in zip(members, heads, strict=True)]
    assert joined.width == 30
    assert torch.allclose(joined(*inputs.values()) @ weight.T + bias, torch.stack(each).mean(0), atol=1e-5)


@pytest.mark.parametrize("frozen", [8, 0])
def test_a_frozen_half_is_run_once_and_others_each(frozen):
    torch.manual_seed(0)
    members = [
        ENCODERS["efficientnet_lite"](weights="none", freeze_until=frozen, height=32, width_px=32).eval()
        for _ in range(2)
    ]
    calls = []
    for number, member in enumerate(members):
        member.stem = lambda inputs, number=number, run=member.stem: (calls.append(number), run(inputs))[1]
    with torch.no_grad():
        MemberEncoder(members)(*members[0].example(1).values())
    assert calls == ([0] if frozen else [0, 1])
