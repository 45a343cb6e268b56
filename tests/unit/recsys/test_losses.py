"""Losses: values by hand, and agreement with the library's own."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from frugal.config.recommendation import LossSettings
from frugal.losses import chunked_cross_entropy
from frugal.recsys.losses import (
    LOSSES,
    InBatchSoftmax,
    full_softmax,
    gbce,
    in_batch_softmax,
    sampled_softmax,
    softmax_against,
)

SCRIPTS = Path(__file__).parents[3] / "workflow" / "scripts"


def problem(positions: int, items: int, seed: int = 0, dtype=torch.float32):
    """States, item weights and bias that want gradients, and targets."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(positions, 4, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(items, 4, generator=generator).requires_grad_()
    bias = torch.randn(items, generator=generator).requires_grad_()
    return hidden, weight, bias, torch.randint(items, (positions,), generator=generator)


def full(hidden, weight, bias, targets):
    return F.cross_entropy(F.linear(hidden, weight, bias), targets, reduction="sum")


def test_two_items_by_hand():
    # State 1 against weights 0 and log 3, no bias: probabilities 1/4 and 3/4. Targets 0 and 1:
    # loss log 4 + log 4/3. Gradients of the logits: (-3/4, 3/4) and (1/4, -1/4), together (-1/2, 1/2).
    hidden = torch.ones(2, 1, requires_grad=True)
    weight = torch.tensor([[0.0], [math.log(3)]], requires_grad=True)
    bias = torch.zeros(2, requires_grad=True)
    loss = chunked_cross_entropy(hidden, weight, bias, torch.tensor([0, 1]), chunk=2)
    assert loss.item() == pytest.approx(math.log(4) + math.log(4 / 3))
    loss.backward()
    assert bias.grad.tolist() == pytest.approx([-0.5, 0.5])
    assert weight.grad[:, 0].tolist() == pytest.approx([-0.5, 0.5])
    assert hidden.grad[:, 0].tolist() == pytest.approx([0.75 * math.log(3), -0.25 * math.log(3)])


@settings(max_examples=50, deadline=None)
@given(
    positions=st.integers(1, 20),
    items=st.integers(1, 15),
    chunk=st.integers(1, 25),
    biased=st.booleans(),
    seed=st.integers(0, 1000),
    factor=st.sampled_from([1.0, 0.25]),
)
def test_chunks_equal_the_whole(positions, items, chunk, biased, seed, factor):
    ours, theirs = problem(positions, items, seed), problem(positions, items, seed)
    if not biased:
        ours, theirs = ((hidden, weight, None, targets) for hidden, weight, _, targets in (ours, theirs))
    loss, expected = chunked_cross_entropy(*ours, chunk=chunk), full(*theirs)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    (loss * factor).backward()
    (expected * factor).backward()
    for mine, other in zip(ours[: 2 + biased], theirs[: 2 + biased], strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-5)


def test_large_logits_do_not_overflow():
    hidden = torch.tensor([[1000.0]])
    loss = chunked_cross_entropy(hidden, torch.tensor([[1.0], [-1.0]]), torch.zeros(2), torch.tensor([1]), 1)
    assert loss.item() == 2000


def test_bfloat16_is_close_and_its_loss_is_float32():
    hidden, weight, bias, targets = problem(64, 30, dtype=torch.bfloat16)
    exact = problem(64, 30)
    loss, expected = chunked_cross_entropy(hidden, weight, bias, targets, chunk=10), full(*exact)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=0.01)
    loss.backward()
    expected.backward()
    assert hidden.grad.dtype == torch.bfloat16
    assert (weight.grad.dtype, bias.grad.dtype) == (torch.float32, torch.float32)
    # bfloat16 has 8 binary digits: an error of 1/256 in each factor.
    for mine, other in ((hidden, exact[0]), (weight, exact[1]), (bias, exact[2])):
        error = (mine.grad.float() - other.grad).norm() / other.grad.norm()
        assert error < 0.02


def test_a_learnt_position_keeps_its_small_gradient_in_16_bits():
    # Logits 8 and 0: the target has 1 / (1 + e^-8) = .99966, which bfloat16 rounds to 1. Loss and gradient are those
    # of the other class all the same: log(1 + e^-8), and -1 / (1 + e^8) and its opposite.
    hidden = torch.ones(1, 1, dtype=torch.bfloat16, requires_grad=True)
    weight = torch.tensor([[8.0], [0.0]], requires_grad=True)
    loss = chunked_cross_entropy(hidden, weight, None, torch.tensor([0]), chunk=1)
    loss.backward()
    assert loss.item() == pytest.approx(math.log1p(math.exp(-8)), rel=0.01)
    expected = 1 / (1 + math.exp(8))
    assert weight.grad[:, 0].tolist() == pytest.approx([-expected, expected], rel=0.01)


@pytest.mark.parametrize("number", [torch.float32, torch.bfloat16])
def test_a_probability_too_small_for_a_number_has_its_loss(number):
    # Scores 0 and 200 plus a bias of 8: the first has e^-208, which no number of 32 bits holds.
    hidden, weight = torch.ones(1, 1, dtype=number), torch.tensor([[0.0], [200.0]])
    loss = chunked_cross_entropy(hidden, weight, torch.tensor([0.0, 8.0]), torch.tensor([0]), chunk=1)
    assert loss.item() == 208


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_logits_in_16_bits_have_no_copy():
    # 512 x 50,000 logits of two bytes are 49 MB; a copy in float32 would be 98 MB more.
    code = f"""
import sys
sys.path.insert(0, {str(SCRIPTS)!r})
import re, torch
from pathlib import Path
from frugal.losses import chunked_cross_entropy
hidden = torch.randn(512, 8).bfloat16().requires_grad_()
weight = torch.randn(50_000, 8).bfloat16()
targets = torch.randint(50_000, (512,))
chunked_cross_entropy(hidden[:64], weight, None, targets[:64], 64)
peak = lambda: int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
before = peak()
chunked_cross_entropy(hidden, weight, None, targets, 512).backward()
print(peak() - before)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 49 + 30


def test_nothing_to_predict_is_zero():
    hidden, weight, bias, _ = problem(1, 5)
    nothing = torch.zeros(0, dtype=torch.int64)
    loss = full_softmax(hidden[:0], weight, bias, nothing)
    loss.backward()
    assert loss.item() == 0
    assert weight.grad.abs().sum() == 0


@pytest.mark.parametrize("score_of_others", [1.0, 7.0])
def test_sampled_softmax_by_hand(monkeypatch, score_of_others):
    # Three draws of two items: 1, 0, 1. The target is 0, so that the draw of 0 is left out; each of the
    # others counts 1 / (3 / 2). With exponentials 2 of the target and s of item 1 the normaliser is
    # 2 + 2 x (2 / 3) s: the loss is log(1 + 2 s / 3).
    monkeypatch.setattr(torch, "randint", lambda *args, **kwargs: torch.tensor([1, 0, 1]))
    bias = torch.tensor([math.log(2), math.log(score_of_others)])
    loss = sampled_softmax(torch.ones(1, 1), torch.zeros(2, 1), bias, torch.tensor([0]), 3)
    assert loss.item() == pytest.approx(math.log(1 + 2 * score_of_others / 3))


def test_only_the_target_is_drawn(monkeypatch):
    monkeypatch.setattr(torch, "randint", lambda *args, **kwargs: torch.tensor([0]))
    hidden, weight, bias, _ = problem(1, 5)
    loss = sampled_softmax(hidden, weight, bias, torch.tensor([0]), 1)
    loss.backward()
    assert loss.item() == 0
    assert all((part.grad == 0).all() for part in (hidden, weight, bias))


def test_many_negatives_approach_the_full_loss():
    ours, theirs = problem(20, 50), problem(20, 50)
    generator = torch.Generator().manual_seed(1)
    loss, expected = sampled_softmax(*ours, negatives=200_000, generator=generator), full(*theirs)
    # An item is drawn 4000 times, give or take 63: its share of the normaliser is known to 1.6 %, the sum better.
    assert loss.item() == pytest.approx(expected.item(), rel=0.01)
    loss.backward()
    expected.backward()
    for mine, other in zip(ours[:3], theirs[:3], strict=True):
        assert (mine.grad - other.grad).norm() / other.grad.norm() < 0.03


def test_normaliser_is_right_on_average_with_few_negatives():
    # exp(loss) - 1 = sum over the others / the target's exponential, times sampling noise of mean 1.
    hidden, weight, bias, targets = (part.detach() for part in problem(1, 10))
    generator = torch.Generator().manual_seed(1)
    ratios = [sampled_softmax(hidden, weight, bias, targets, 3, generator).exp() - 1 for _ in range(20_000)]
    expected = full(hidden, weight, bias, targets).exp() - 1
    assert torch.stack(ratios).mean().item() == pytest.approx(expected.item(), rel=0.03)


def test_generator_decides_the_negatives():
    arguments = problem(5, 1000)
    one, same, other = (
        sampled_softmax(*arguments, negatives=4, generator=torch.Generator().manual_seed(seed)).item()
        for seed in (1, 1, 2)
    )
    assert one == same != other


def test_all_items_as_negatives_are_the_full_softmax():
    ours, theirs = problem(20, 50), problem(20, 50)
    loss, expected = softmax_against(*ours, torch.arange(50), torch.zeros(50)), full(*theirs)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    for mine, other in zip(ours[:3], theirs[:3], strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


def test_in_batch_softmax_by_hand():
    # Exponentials 2, 3 and 4 of the three items, which are targets with shares 1/2, 1/4 and 1/4; a batch of 0, 1, 0.
    # Each position has two others, which are drawn 2 x share times: 1, 1/2 and 1/2. The positions of item 0 have item 1
    # alone as a negative, for the other 0 is their own target: 3 / (1/2) = 6, so the loss is log((2 + 6) / 2). That of
    # item 1 has item 0 twice, 2 / 1 each: log((3 + 4) / 3).
    bias, shares = torch.tensor([2.0, 3.0, 4.0]).log(), torch.tensor([0.5, 0.25, 0.25])
    problem = torch.ones(3, 1), torch.zeros(3, 1), bias, torch.tensor([0, 1, 0])
    expected = 2 * math.log(4) + math.log(7 / 3)
    assert in_batch_softmax(*problem, 3, shares).item() == pytest.approx(expected)
    assert InBatchSoftmax.of_counts(10, np.array([2, 1, 1]))(*problem).item() == pytest.approx(expected)


@pytest.mark.parametrize("negatives", [3, 100])
def test_in_batch_negatives_are_as_many_as_expected(monkeypatch, negatives):
    """The correction is by the number of times that an item is another position's target, on average."""
    used = []
    monkeypatch.setattr("frugal.recsys.losses.softmax_against", lambda *arguments: used.append(arguments[-2:]))
    shares, generator = torch.tensor([0.4, 0.3, 0.2, 0.1]), torch.Generator().manual_seed(1)
    # The first position's target is item 3, the other six have any.
    for drawn in torch.multinomial(shares.expand(4000, -1), 6, True, generator=generator):
        targets = F.pad(drawn, (1, 0), value=3)
        in_batch_softmax(torch.ones(7, 1), torch.ones(4, 1), torch.zeros(4), targets, negatives, shares, generator)
    counts = sum(torch.bincount(sampled, minlength=4) for sampled, _ in used) / 4000
    expected = {item: e.exp().item() for pair in used for item, e in zip(pair[0].tolist(), pair[1], strict=True)}
    # 6 x share of all seven positions; of three, each is another than the first in 6 of 7 cases.
    for item in range(3):
        assert expected[item] == pytest.approx((18 / 7 if negatives == 3 else 6) * shares[item].item())
        assert counts[item].item() == pytest.approx(expected[item], abs=0.06)


def test_gbce_by_hand(monkeypatch):
    # Four items, draws 1, 0 and 2 of which the 0 is the target 0. alpha = 3 / 3, so beta = 1, whatever t is: the loss
    # is -(log 1/2 + log(1 - 1/4) + log(1 - 2/3)) / 4 with sigmoids 1/2, 1/4 and 2/3 of scores 0, -log 3 and log 2.
    monkeypatch.setattr(torch, "randint", lambda *args, **kwargs: torch.tensor([1, 0, 2]))
    bias = torch.tensor([0, -math.log(3), math.log(2), 9])
    problem = torch.ones(1, 1), torch.zeros(4, 1), bias, torch.tensor([0])
    expected = (math.log(2) + math.log(4 / 3) + math.log(3)) / 4
    assert gbce(*problem, 3, calibration=0.5).item() == pytest.approx(expected)


@pytest.mark.parametrize(("calibration", "beta"), [(0, 1), (0.5, 0.6), (1, 0.2)])
def test_calibration_of_gbce_by_hand(monkeypatch, calibration, beta):
    # One draw of six items: alpha = 1/5, beta = 1 - t (1 - 1/5). Both sigmoids are 1/2, so the loss is half of
    # beta log 2 + log 2.
    monkeypatch.setattr(torch, "randint", lambda *args, **kwargs: torch.tensor([5]))
    problem = torch.ones(1, 1), torch.zeros(6, 1), torch.zeros(6), torch.tensor([0])
    assert gbce(*problem, 1, calibration).item() == pytest.approx((beta + 1) / 2 * math.log(2))


@pytest.mark.parametrize("name", ["sampled_softmax", "in_batch_softmax", "gbce"])
def test_a_catalogue_of_one_item_has_no_negatives(name):
    hidden, weight, bias, targets = problem(3, 1)
    loss = LOSSES[name](LossSettings(name=name, negatives=2), np.array([3]))(hidden, weight, bias, targets)
    loss.backward()
    assert hidden.grad.isfinite().all()
    assert loss.item() == 0 or name == "gbce"


@pytest.mark.parametrize("name", LOSSES)
def test_losses_in_16_bits_are_close(name):
    exact, low = problem(16, 30), problem(16, 30, dtype=torch.bfloat16)
    values = []
    for arguments in (exact, low):
        torch.manual_seed(0)
        loss = LOSSES[name](LossSettings(name=name, negatives=20), np.arange(1, 31))(*arguments)
        loss.backward()
        values.append(loss.item())
        assert loss.dtype == torch.float32
    assert values[1] == pytest.approx(values[0], rel=0.02)
    assert (low[1].grad - exact[1].grad).norm() / exact[1].grad.norm() < 0.05


def test_every_loss_of_the_settings_is_there():
    assert set(LossSettings.model_fields["name"].annotation.__args__) == set(LOSSES)
