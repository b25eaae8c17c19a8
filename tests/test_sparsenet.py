"""Sparsenet and its learner: properties, refusals, stored runs."""

from __future__ import annotations

import csv
import hashlib
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_book.data.whitening import (
    whiten_images,
    whitening_filter,
    zca_whitening,
)
from sparse_book.linear.dictionaries import random_dictionary
from sparse_book.linear.shrinkage import fista
from sparse_book.linear.sparsenet import (
    PENALTIES,
    learn_dictionary,
    sparsenet_codes,
    sparsenet_penalty,
)

from conftest import ROOT

RESULTS = ROOT / "results" / "fields"
sizes = st.integers(2, 7)
seeds = st.integers(0, 2**31 - 1)


def problem(seed, count, dimension, atoms, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    signals = torch.randn(count, dimension, generator=generator, dtype=dtype)
    dictionary = random_dictionary(
        atoms, dimension, generator=generator, dtype=dtype
    )
    return signals, dictionary


@given(
    seed=seeds,
    dimension=sizes,
    atoms=sizes,
    coefficient=st.floats(0, 5),
    scale=st.floats(0.1, 5),
    penalty=st.sampled_from(["gauss", "log"]),
    steps=st.integers(0, 30),
)
def test_smooth_costs_fall_at_every_step(
    seed, dimension, atoms, coefficient, scale, penalty, steps
) -> None:
    signals, dictionary = problem(seed, 4, dimension, atoms)

    def cost(steps):
        found = sparsenet_codes(
            signals,
            dictionary,
            coefficient,
            penalty=penalty,
            scale=scale,
            steps=steps,
        )
        price = sparsenet_penalty(found.codes, penalty, scale=scale)
        return found.residual_norm.square() / 2 + coefficient * price

    before, after = cost(steps), cost(steps + 1)
    assert (after <= before + 1e-9 * (1 + before.abs())).all()


@given(seed=seeds, penalty=st.sampled_from(PENALTIES))
def test_a_batch_changes_no_code(seed, penalty) -> None:
    signals, dictionary = problem(seed, 5, 4, 7)
    signals[2] = 0
    code = partial(sparsenet_codes, coefficient=0.3, penalty=penalty)
    together = code(signals, dictionary).codes
    alone = [code(one[None], dictionary).codes for one in signals]
    torch.testing.assert_close(together, torch.cat(alone))
    assert together[2].abs().max() == 0
    mirrored = code(-signals, dictionary).codes
    torch.testing.assert_close(mirrored, -together)


def test_atoms_of_any_norm_are_coded() -> None:
    signals, dictionary = problem(0, 6, 5, 8)
    long_ = dictionary * torch.arange(1, 9)[:, None]
    found = sparsenet_codes(signals, long_, 0.2, steps=4000)
    assert found.converged.all()
    codes = found.codes.requires_grad_()
    cost = (signals - codes @ long_).square().sum() / 2
    cost = cost + 0.2 * sparsenet_penalty(codes).sum()
    (slope,) = torch.autograd.grad(cost, codes)
    assert slope.abs().max() < 1e-2 * (signals @ long_.T).abs().max()


@settings(max_examples=15)
@given(
    seed=seeds,
    update=st.sampled_from(["gradient", "block"]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_a_learner_keeps_its_promises(seed, update, dtype) -> None:
    signals, start = problem(seed, 60, 6, 9, dtype)
    kept = start.clone()
    rows = []
    learned = learn_dictionary(
        signals,
        start,
        partial(fista, coefficient=0.3, tolerance=1e-3),
        cost=lambda codes: 0.3 * codes.abs().sum(-1),
        steps=7,
        batch=10,
        update=update,
        rate=0.1,
        memory=0.5,
        watch=20,
        every=3,
        generator=torch.Generator().manual_seed(seed),
        callback=lambda atoms, row: rows.append((atoms, row)),
    )
    assert torch.equal(start, kept)
    assert learned.dictionary.dtype == dtype
    norms = learned.dictionary.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms))
    assert [row.step for row in learned.history] == [0, 3, 6, 7]
    assert [row for _, row in rows] == list(learned.history)
    best = min(rows, key=lambda pair: pair[1].objective)
    assert torch.equal(best[0], learned.dictionary)
    assert learned.best == best[1] and not learned.interrupted


def test_watched_signals_are_never_learned_from() -> None:
    signals, start = problem(1, 50, 6, 9)
    seen = []

    def note(batch, dictionary):
        seen.append(batch)
        return sparsenet_codes(batch, dictionary, 0.2, steps=2)

    learn_dictionary(signals, start, note, steps=5, watch=20, every=100)
    watched = {tuple(row.tolist()) for row in signals[-20:]}
    batches = [batch for batch in seen if len(batch) == 100]
    assert len(batches) == 5
    for batch in batches:
        assert not watched & {tuple(row.tolist()) for row in batch}


def stopping(calls, forever=False):
    count = iter(range(10**9))

    def coder(signals, dictionary):
        number = next(count)
        if number == calls or (forever and number > calls):
            raise KeyboardInterrupt
        return fista(signals, dictionary, 0.3, tolerance=1e-2)

    return coder


@pytest.mark.parametrize("update", ["gradient", "block"])
@pytest.mark.parametrize("forever", [False, True])
def test_an_interruption_loses_nothing(update, forever) -> None:
    signals, start = problem(5, 200, 6, 9)
    learn = partial(
        learn_dictionary,
        signals,
        start,
        cost=lambda codes: 0.3 * codes.abs().sum(-1),
        batch=50,
        update=update,
        watch=50,
        every=4,
    )
    # Looks are calls 0, 5 and 10; call 13 is the batch of step 11.
    learned = learn(
        stopping(13, forever),
        steps=100,
        generator=torch.Generator().manual_seed(0),
    )
    steps = [0, 4, 8] if forever else [0, 4, 8, 11]
    assert learned.interrupted
    assert [row.step for row in learned.history] == steps
    whole = learn(
        stopping(-1), steps=8, generator=torch.Generator().manual_seed(0)
    )
    assert learned.history[:3] == whole.history
    if forever:
        assert torch.equal(learned.dictionary, whole.dictionary)
    norms = learned.dictionary.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms))
    assert learned.best.objective <= whole.best.objective


def test_an_interruption_before_anything_is_known_passes_on() -> None:
    signals, start = problem(6, 60, 6, 9)
    with pytest.raises(KeyboardInterrupt):
        learn_dictionary(signals, start, stopping(0), steps=3, watch=20)


def test_the_bar_shows_steps_and_objective(capsys) -> None:
    signals, start = problem(7, 60, 6, 9)
    learned = learn_dictionary(
        signals, start, stopping(-1), steps=6, watch=20, progress=True
    )
    shown = capsys.readouterr().err
    assert "6/6" in shown
    assert f"objective={learned.history[-1].objective:.5g}" in shown
    learn_dictionary(signals, start, stopping(-1), steps=6, watch=20)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"watch": 60}, ValueError, "more than watch"),
        ({"batch": 0}, ValueError, "batch"),
        ({"batch": 2.0}, TypeError, "batch"),
        ({"update": "newton"}, ValueError, "update"),
        ({"rate": 0.0}, ValueError, "rate"),
        ({"memory": 1.5}, ValueError, "memory"),
        ({"steps": -1}, ValueError, "steps"),
        ({"start": torch.zeros(3, 6).double()}, ValueError, "zero"),
        ({"signals": torch.zeros(60, 5).double()}, ValueError, "signals"),
    ],
)
def test_learner_refuses(change, kind, words) -> None:
    signals, start = problem(2, 60, 6, 9)
    coder = partial(sparsenet_codes, coefficient=0.1)
    given_ = {"signals": signals, "start": start, "coder": coder}
    settings_ = {"watch": 20, "steps": 1}
    with pytest.raises(kind, match=words):
        learn_dictionary(**(given_ | settings_ | change))


def test_coder_refuses() -> None:
    signals, atoms = problem(3, 3, 4, 5)
    with pytest.raises(ValueError, match="penalty"):
        sparsenet_codes(signals, atoms, 0.1, penalty="cube")
    with pytest.raises(ValueError, match="coefficient"):
        sparsenet_codes(signals, atoms, -0.1)
    with pytest.raises(ValueError, match="scale"):
        sparsenet_codes(signals, atoms, 0.1, scale=0.0)
    with pytest.raises(ValueError, match="signals"):
        sparsenet_codes(signals[:, :3], atoms, 0.1)
    with pytest.raises(TypeError, match="codes"):
        sparsenet_penalty(torch.ones(3, dtype=torch.int64))


@given(seed=seeds, height=st.integers(4, 20), width=st.integers(4, 20))
def test_whitening_of_any_size(seed, height, width) -> None:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(height, width, generator=generator).double()
    white = whiten_images(image)
    assert white.shape == image.shape
    assert abs(white.mean()) < 1e-9
    assert abs(white.square().mean() - 1) < 1e-9
    torch.testing.assert_close(whiten_images(image.T).T, white)
    torch.testing.assert_close(whiten_images(5 * image - 3), white)
    stack = torch.stack([image, image.flip(0)])
    torch.testing.assert_close(whiten_images(stack)[0], white)
    gains = whitening_filter(height, width)
    assert gains.shape == (height, width // 2 + 1) and (gains >= 0).all()


@given(seed=seeds, epsilon=st.floats(0, 1))
def test_zca_can_be_undone(seed, epsilon) -> None:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(5, 5, generator=generator).double() + torch.eye(5)
    signals = torch.randn(80, 5, generator=generator).double() @ mixing
    whitening = zca_whitening(signals, epsilon + 1e-6)
    white = whitening.apply(signals)
    torch.testing.assert_close(
        whitening.undo(white), signals, atol=1e-6, rtol=1e-6
    )
    assert torch.linalg.eigvalsh(white.T.cov()).max() < 1 + 1e-6


def rows_of(name):
    with (RESULTS / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_stored_runs_are_what_their_lines_say() -> None:
    lines = rows_of("runs.csv")
    assert {"l1", "log", "l0"} <= {line["run"] for line in lines}
    for line in lines:
        path = RESULTS / f"{line['run']}.npz"
        assert path.stat().st_size < 2**20
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert digest == line["sha256"], path.name
        with np.load(path) as file:
            atoms = torch.from_numpy(file["dictionary"]).double()
        shape = (int(line["atoms"]), int(line["side"]) ** 2)
        assert tuple(atoms.shape) == shape
        assert (atoms.norm(dim=1) - 1).abs().max() < 2e-3
        assert int(line["patches"]) >= 50_000 and shape[0] >= 256
        assert line["data"] == "13 photographs" and line["command"]
        history = rows_of(f"{line['run']}.csv")
        assert int(history[-1]["step"]) == int(line["steps"])
        best = min(history, key=lambda row: float(row["objective"]))
        for name in ("objective", "error", "active"):
            assert line[name] == best[name]
        assert float(best["objective"]) < 0.8 * float(history[0]["objective"])
