"""Estimators: scikit-learn's checks, its own estimators, chains, refusals."""

from __future__ import annotations

import pickle
import signal
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.decomposition import MiniBatchDictionaryLearning
from sklearn.decomposition import SparseCoder as TheirSparseCoder
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from sparse_book.linear import estimators
from sparse_book.linear.basis_pursuit import basis_pursuit_denoising
from sparse_book.linear.dictionaries import random_dictionary
from sparse_book.linear.estimators import DictionaryLearner, SparseCoder
from sparse_book.linear.pursuit import batch_omp
from sparse_book.linear.shrinkage import duality_gap, lasso_objective
from sparse_book.linear.sparse_set import order_recursive_pursuit

CANDIDATES = [
    SparseCoder(),
    SparseCoder(method="fista", tolerance=1e-3, max_iterations=500),
    SparseCoder(nonnegative=True),
    SparseCoder(method="omp"),
    SparseCoder(method="order-recursive"),
    DictionaryLearner(passes=3),
    DictionaryLearner(
        passes=1, method="fista", tolerance=1e-3, max_iterations=500
    ),
    DictionaryLearner(passes=2, n_components=7, nonnegative=True),
    DictionaryLearner(passes=2, method="omp"),
    DictionaryLearner(passes=2, method="order-recursive"),
]


# One check codes nearly collinear signals far from zero: codes that fall short
# of the tolerance are announced there, as they should be.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(CANDIDATES)
def test_scikit_learns_own_checks(estimator, check) -> None:
    check(estimator)


def problem(seed=0, count=60, dimension=16, atoms=24, dtype=np.float64):
    generator = torch.Generator().manual_seed(seed)
    dictionary = random_dictionary(atoms, dimension, generator=generator)
    codes = torch.randn(count, atoms, generator=generator)
    rare = torch.rand(count, atoms, generator=generator) < 0.15
    signals = (codes * rare) @ dictionary
    signals = signals + 0.01 * torch.randn(
        count, dimension, generator=generator
    )
    return signals.numpy().astype(dtype), dictionary.numpy().astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("settings", "function"),
    [
        (
            {"coefficient": 0.05, "tolerance": 1e-4},
            lambda s, d: basis_pursuit_denoising(s, d, 0.05, tolerance=1e-4),
        ),
        (
            {
                "coefficient": 0.05,
                "tolerance": 1e-4,
                "method": "fista",
                "nonnegative": True,
            },
            lambda s, d: basis_pursuit_denoising(
                s, d, 0.05, method="fista", nonnegative=True, tolerance=1e-4
            ),
        ),
        (
            {"method": "omp", "active": 4},
            lambda s, d: batch_omp(s, d, active=4),
        ),
        ({"method": "omp"}, lambda s, d: batch_omp(s, d, active=1)),
        (
            {"method": "order-recursive", "active": 5, "coefficient": 0.01},
            lambda s, d: order_recursive_pursuit(s, d, 5, coefficient=0.01),
        ),
    ],
)
def test_an_estimator_says_what_its_function_says(
    dtype, settings, function
) -> None:
    signals, dictionary = problem(dtype=dtype)
    coder = SparseCoder(dictionary, **settings).fit(signals)
    wanted = function(torch.from_numpy(signals), torch.from_numpy(dictionary))
    codes = coder.transform(signals)
    assert codes.dtype == dtype and np.array_equal(codes, wanted.codes)
    found = coder.encode(signals)
    for name in ("residual_norm", "iterations", "converged"):
        assert torch.equal(getattr(found, name), getattr(wanted, name))
    assert (found.gap is None) == (wanted.gap is None)
    rebuilt = coder.inverse_transform(codes)
    assert rebuilt.dtype == dtype
    np.testing.assert_allclose(rebuilt, codes @ dictionary, atol=1e-6)
    share = 1 - ((signals - rebuilt) ** 2).sum() / (signals**2).sum()
    assert coder.score(signals) == pytest.approx(share, abs=1e-5)


def test_objectives_equal_scikit_learns() -> None:
    signals, dictionary = problem()
    theirs = TheirSparseCoder(
        dictionary,
        transform_algorithm="lasso_lars",
        transform_alpha=0.05,
        transform_max_iter=10_000,
    )
    s, d = torch.from_numpy(signals), torch.from_numpy(dictionary)
    ours = SparseCoder(dictionary, coefficient=0.05).fit_transform(signals)
    costs = [
        lasso_objective(s, torch.from_numpy(codes), d, 0.05)
        for codes in (ours, theirs.transform(signals))
    ]
    torch.testing.assert_close(*costs, rtol=1e-5, atol=1e-9)
    assert (costs[0] <= costs[1] * (1 + 1e-6) + 1e-12).all()
    gap = duality_gap(s, torch.from_numpy(ours), d, 0.05)
    assert (gap <= 1e-6 * costs[0]).all()


def held_out_objective(atoms, signals, price):
    s, d = torch.from_numpy(signals), torch.from_numpy(atoms)
    d = d / d.norm(dim=1, keepdim=True)
    found = basis_pursuit_denoising(s, d, price)
    assert found.converged.all()
    return float(lasso_objective(s, found.codes, d, price).mean())


def test_learned_atoms_are_as_good_as_scikit_learns() -> None:
    signals, _ = problem(count=900)
    train, test = signals[:600], signals[600:]
    theirs = MiniBatchDictionaryLearning(
        24, alpha=0.1, max_iter=10, batch_size=60, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs.fit(train)
    bar = held_out_objective(theirs.components_, test, 0.1)
    for method in ("auto", "fista"):
        learner = DictionaryLearner(
            24,
            coefficient=0.1,
            method=method,
            passes=10,
            batch_size=60,
            random_state=0,
        ).fit(train)
        assert held_out_objective(learner.components_, test, 0.1) < 1.02 * bar
        assert learner.error_.min() < 0.8 * learner.error_[0]
        assert len(learner.error_) == len(learner.history_)
        assert learner.n_iter_ == 90 and not learner.interrupted_
        norms = np.linalg.norm(learner.components_, axis=1)
        np.testing.assert_allclose(norms, 1, rtol=1e-6)


def test_every_method_learns() -> None:
    signals, _ = problem(count=200)
    for method in ("ista", "lca", "omp", "order-recursive"):
        learner = DictionaryLearner(
            24,
            method=method,
            coefficient=0.05,
            active=4,
            passes=4,
            batch_size=60,
            random_state=0,
        ).fit(signals)
        assert learner.error_.min() < 0.9 * learner.error_[0], method
        assert learner.score(signals) > 0.5


def test_pipeline_search_copies_and_pickles() -> None:
    signals, dictionary = problem(count=120, dtype=np.float32)
    labels = (signals @ dictionary[0] > 0).astype(int)
    chain = make_pipeline(
        DictionaryLearner(12, passes=2, random_state=0), LogisticRegression()
    )
    grid = {"dictionarylearner__coefficient": [0.02, 0.2]}
    search = GridSearchCV(chain, grid, cv=2).fit(signals, labels)
    learner = search.best_estimator_[0]
    assert learner.components_.dtype == np.float32
    codes = learner.transform(signals)
    names = learner.get_feature_names_out()
    assert codes.shape == (120, 12) and names[11] == "dictionarylearner11"
    restored = pickle.loads(pickle.dumps(learner))
    assert np.array_equal(restored.transform(signals), codes)
    assert np.array_equal(clone(learner).fit_transform(signals), codes)
    by_score = GridSearchCV(
        DictionaryLearner(12, passes=1, random_state=0),
        {"coefficient": [0.01, 1.0]},
        cv=2,
    ).fit(signals)
    assert by_score.best_params_ == {"coefficient": 0.01}


def test_frames_keep_their_names() -> None:
    pandas = pytest.importorskip("pandas")
    signals, _ = problem()
    frame = pandas.DataFrame(signals, columns=[f"pixel{k}" for k in range(16)])
    coder = SparseCoder(coefficient=0.5).set_output(transform="pandas")
    codes = coder.fit_transform(frame)
    assert list(codes.columns[:2]) == ["sparsecoder0", "sparsecoder1"]
    assert coder.feature_names_in_[3] == "pixel3"


def test_a_tensor_may_be_the_dictionary_and_is_not_touched() -> None:
    signals, dictionary = problem()
    given = torch.from_numpy(dictionary.copy()) * 3
    kept, before = given.clone(), signals.copy()
    signals.flags.writeable = False
    coder = SparseCoder(given, coefficient=0.2).fit(signals)
    coder.components_[0] = 0
    assert torch.equal(given, kept) and np.array_equal(signals, before)


def test_without_a_dictionary_signals_are_atoms() -> None:
    signals, _ = problem(count=9)
    signals[4] = 0
    coder = SparseCoder(method="omp", active=1).fit(signals)
    assert coder.components_.shape == (8, 16)
    codes = coder.transform(signals)
    np.testing.assert_allclose(codes @ coder.components_, signals, atol=1e-12)
    with pytest.raises(ValueError, match="not zero"):
        SparseCoder().fit(np.zeros((3, 4)))


def test_codes_that_did_not_converge_are_announced() -> None:
    signals, dictionary = problem()
    coder = SparseCoder(
        dictionary, method="ista", coefficient=0.01, max_iterations=1
    ).fit(signals)
    with pytest.warns(ConvergenceWarning, match="of 60 codes did not"):
        coder.transform(signals)


@contextmanager
def keyboard():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("method", ["auto", "omp"])
def test_an_interrupted_fit_can_be_used(monkeypatch, method) -> None:
    signals, _ = problem(count=500)
    name = (
        "online_dictionary_learning"
        if method == "auto"
        else "learn_dictionary"
    )
    function = getattr(estimators, name)

    def with_keyboard(*args, **options):
        def press(dictionary, row):
            if row.step >= 6:
                signal.raise_signal(signal.SIGINT)

        return function(*args, **options, callback=press)

    monkeypatch.setattr(estimators, name, with_keyboard)
    learner = DictionaryLearner(
        20, method=method, passes=20, batch_size=100, random_state=0
    )
    with keyboard(), pytest.warns(UserWarning, match="interrupted"):
        learner.fit(signals)
    assert learner.interrupted_ and 6 <= learner.n_iter_ < 90
    assert learner.error_.min() < learner.error_[0]
    assert learner.transform(signals).shape == (500, 20)


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"method": "magic"}, ValueError, "method"),
        ({"coefficient": 0.0}, ValueError, "coefficient"),
        ({"coefficient": "much"}, Exception, "coefficient|float"),
        ({"tolerance": -1.0}, ValueError, "tolerance"),
        ({"method": "omp", "active": 17}, ValueError, "active"),
        ({"method": "omp", "nonnegative": True}, ValueError, "nonnegative"),
        ({"n_components": 0}, ValueError, "n_components"),
        ({"n_components": 2.5}, TypeError, "n_components"),
        ({"passes": 0}, ValueError, "passes"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"validation_fraction": 1.0}, ValueError, "validation_fraction"),
        ({"start": np.ones((3, 3))}, ValueError, "start"),
        ({"start": np.zeros((16, 16))}, ValueError, "zero"),
    ],
)
def test_learner_refuses(change, kind, words) -> None:
    signals, _ = problem()
    with pytest.raises(kind, match=words):
        DictionaryLearner(**change).fit(signals)


def test_coder_refuses() -> None:
    signals, dictionary = problem()
    with pytest.raises(ValueError, match="16 entries"):
        SparseCoder(dictionary[:, :5]).fit(signals)
    with pytest.raises(ValueError, match="row 2 is zero"):
        broken = dictionary.copy()
        broken[2] = 0
        SparseCoder(broken).fit(signals)
    coder = SparseCoder(dictionary)
    with pytest.raises(NotFittedError):
        coder.transform(signals)
    coder.fit(signals)
    with pytest.raises(ValueError, match="24 coefficients"):
        coder.inverse_transform(signals)
    with pytest.raises(ValueError, match="features"):
        coder.transform(signals[:, :3])
    with pytest.raises(ValueError, match="NaN"):
        coder.transform(np.full((1, 16), np.nan))
