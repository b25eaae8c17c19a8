"""Linear codes: properties that hold for every dictionary and signal."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.linalg import null_space as scipy_null_space
from torch import Tensor

from sparse_book.linear.dictionaries import (
    SparseCodes,
    check_dictionary,
    check_signals,
    coherence,
    cosine_dictionary,
    frame_bounds,
    gram,
    least_norm_code,
    normalize_atoms,
    null_space,
    random_dictionary,
    reconstruct,
    reconstruction_error,
)

SEEDS = st.integers(0, 2**32 - 1)
TYPES = st.sampled_from([torch.float32, torch.float64])


def drawn(*shape: int, seed: int, dtype: torch.dtype) -> Tensor:
    stream = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=stream, dtype=dtype)


@st.composite
def dictionaries(draw: st.DrawFn, least: int = 1) -> Tensor:
    """Atoms of any length, from a hundredth to a hundred."""
    count, dimension = draw(st.integers(least, 12)), draw(st.integers(1, 8))
    seed, dtype = draw(SEEDS), draw(TYPES)
    lengths = drawn(count, 1, seed=seed + 1, dtype=dtype).clamp(-2, 2)
    return drawn(count, dimension, seed=seed, dtype=dtype) * 10**lengths


def tolerance(dtype: torch.dtype) -> float:
    return 2e-3 if dtype == torch.float32 else 1e-8


@given(dictionaries(), SEEDS)
def test_reconstruct_is_linear_and_batched(atoms: Tensor, seed: int) -> None:
    codes = drawn(2, 3, len(atoms), seed=seed, dtype=atoms.dtype)
    together = reconstruct(codes, atoms)
    assert together.shape == (2, 3, atoms.shape[1])
    assert together.dtype == atoms.dtype
    size = float(atoms.norm() * codes.norm())
    summed = reconstruct(codes[0] + 2 * codes[1], atoms)
    gap = (summed - together[0] - 2 * together[1]).abs().max()
    assert gap <= tolerance(atoms.dtype) * size
    for i in range(2):
        one = reconstruct(codes[i, 1], atoms)
        gap = (one - together[i, 1]).abs().max()
        assert gap <= tolerance(atoms.dtype) * size


@given(dictionaries(), SEEDS)
def test_error_is_the_squared_residual(atoms: Tensor, seed: int) -> None:
    codes = drawn(4, len(atoms), seed=seed, dtype=atoms.dtype)
    signals = drawn(4, atoms.shape[1], seed=seed + 1, dtype=atoms.dtype)
    expected = (signals - codes @ atoms).norm(dim=-1) ** 2
    error = reconstruction_error(signals, codes, atoms)
    torch.testing.assert_close(error, expected, rtol=1e-4, atol=1e-6)
    padded = reconstruction_error(
        torch.cat([signals, torch.zeros_like(signals)]),
        torch.cat([codes, torch.zeros_like(codes)]),
        atoms,
    )
    torch.testing.assert_close(padded[:4], error, rtol=1e-4, atol=1e-6)
    assert (padded[4:] == 0).all()


@given(dictionaries(), st.floats(-20, 20))
def test_normalising_keeps_directions(atoms: Tensor, power: float) -> None:
    unit = normalize_atoms(atoms)
    lengths = torch.linalg.vector_norm(unit.double(), dim=-1)
    torch.testing.assert_close(
        lengths, torch.ones_like(lengths), rtol=1e-5, atol=1e-5
    )
    along = (unit * atoms).sum(-1) / atoms.norm(dim=-1)
    torch.testing.assert_close(
        along, torch.ones_like(along), rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(
        normalize_atoms(atoms * 10**power), unit, rtol=1e-4, atol=1e-5
    )


@given(dictionaries(least=2), SEEDS)
def test_coherence_does_not_see_length_sign_or_order(
    atoms: Tensor, seed: int
) -> None:
    mu = coherence(atoms)
    assert mu.shape == () and 0 <= mu <= 1
    stream = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(atoms), generator=stream)
    factors = drawn(len(atoms), 1, seed=seed, dtype=atoms.dtype)
    assume(bool((factors.abs() > 1e-3).all()))
    torch.testing.assert_close(
        coherence((factors * atoms)[order]), mu, rtol=1e-4, atol=1e-5
    )
    table = gram(normalize_atoms(atoms)).double()
    off = table - torch.diag(table.diagonal())
    torch.testing.assert_close(
        mu.double(), off.abs().max().clamp_max(1), rtol=1e-5, atol=1e-5
    )


@given(dictionaries(), SEEDS)
def test_adding_from_the_null_space_changes_no_signal(
    atoms: Tensor, seed: int
) -> None:
    atoms = normalize_atoms(atoms)
    recipes = null_space(atoms)
    rank = int(torch.linalg.matrix_rank(atoms))
    assert recipes.shape == (len(atoms) - rank, len(atoms))
    if len(recipes):
        assert reconstruct(recipes, atoms).abs().max() < 1e-5
    theirs = scipy_null_space(atoms.double().mT.numpy())
    ours = recipes.double()
    if atoms.dtype == torch.float64:
        np.testing.assert_allclose(
            (ours.mT @ ours).numpy(), theirs @ theirs.T, atol=1e-7
        )


@given(dictionaries(), SEEDS)
def test_least_norm_code_is_exact_and_shortest(
    atoms: Tensor, seed: int
) -> None:
    atoms = normalize_atoms(atoms.double())
    values = torch.linalg.svdvals(atoms)
    assume(float(values[-1]) > 1e-3)
    made = drawn(3, len(atoms), seed=seed, dtype=torch.float64)
    signals = reconstruct(made, atoms)
    codes = least_norm_code(signals, atoms)
    assert reconstruction_error(signals, codes, atoms).max() < 1e-12
    assert (codes.norm(dim=-1) <= made.norm(dim=-1) + 1e-9).all()
    recipes = null_space(atoms)
    assert (codes @ recipes.mT).abs().sum() < 1e-8


@given(dictionaries(), SEEDS)
def test_frame_bounds_bound(atoms: Tensor, seed: int) -> None:
    low, high = (float(bound) for bound in frame_bounds(atoms))
    assert 0 <= low <= high
    signals = drawn(20, atoms.shape[1], seed=seed, dtype=atoms.dtype)
    energy = (signals @ atoms.mT).double().square().sum(-1)
    size = signals.double().square().sum(-1)
    slack = 1e-4 * high * size
    assert (energy <= high * size + slack).all()
    assert (energy >= low * size - slack).all()
    if len(atoms) < atoms.shape[1]:
        assert low == 0


@given(st.integers(2, 9), st.integers(0, 6), TYPES)
def test_cosine_atoms(side: int, more: int, dtype: torch.dtype) -> None:
    atoms = cosine_dictionary(side, side + more, dtype=dtype)
    assert atoms.shape == ((side + more) ** 2, side**2)
    assert atoms.dtype == dtype
    assert torch.linalg.matrix_rank(atoms.double()) == side**2
    ones = torch.ones(len(atoms), dtype=dtype)
    torch.testing.assert_close(atoms.norm(dim=-1), ones, rtol=1e-5, atol=1e-5)
    assert atoms[1:].sum(-1).abs().max() < 1e-4
    images = atoms.reshape(side + more, side + more, side, side)
    turned = images.transpose(0, 1).transpose(2, 3)
    torch.testing.assert_close(images, turned)
    if more == 0:
        eye = torch.eye(side**2, dtype=dtype)
        torch.testing.assert_close(gram(atoms), eye, rtol=0, atol=1e-5)


@given(SEEDS, TYPES)
def test_random_dictionary_follows_its_generator(
    seed: int, dtype: torch.dtype
) -> None:
    one, two = (
        random_dictionary(
            5, 3, generator=torch.Generator().manual_seed(seed), dtype=dtype
        )
        for _ in range(2)
    )
    assert torch.equal(one, two) and one.dtype == dtype
    assert not torch.equal(one, random_dictionary(5, 3, dtype=dtype))


def test_gradients_flow_through_the_functions() -> None:
    atoms = drawn(5, 3, seed=1, dtype=torch.float64).requires_grad_()
    codes = drawn(2, 5, seed=2, dtype=torch.float64).requires_grad_()
    signals = drawn(2, 3, seed=3, dtype=torch.float64).requires_grad_()
    check = torch.autograd.gradcheck
    assert check(reconstruct, (codes, atoms))
    assert check(reconstruction_error, (signals, codes, atoms))
    assert check(coherence, (atoms,))
    assert check(gram, (atoms,))
    assert check(least_norm_code, (signals, atoms))


def test_a_zero_atom_is_named() -> None:
    atoms = torch.eye(4)
    atoms[2] = 0
    for function in [check_dictionary, normalize_atoms, gram, coherence]:
        with pytest.raises(ValueError, match="row 2"):
            function(atoms)
    atoms[2, 0] = float("inf")
    with pytest.raises(ValueError, match="1 infinite"):
        check_dictionary(atoms)
    with pytest.raises(TypeError, match="got list"):
        check_dictionary([[1.0]])
    with pytest.raises(ValueError, match="atoms, dimension"):
        check_dictionary(torch.ones(3))


def test_signals_and_dictionary_must_meet() -> None:
    atoms = torch.eye(4)
    with pytest.raises(ValueError, match=r"\(batch, 4\)"):
        check_signals(torch.ones(4), atoms)
    with pytest.raises(ValueError, match="one dtype"):
        check_signals(torch.ones(1, 4).double(), atoms)
    with pytest.raises(ValueError, match="one device"):
        check_signals(torch.ones(1, 4, device="meta"), atoms)
    with pytest.raises(ValueError, match="1 NaN"):
        check_signals(torch.tensor([[1.0, 2.0, 3.0, torch.nan]]), atoms)
    assert check_signals(torch.ones(0, 4), atoms).shape == (0, 4)


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [((0, 3), ValueError), ((3, 0), ValueError), ((2.0, 3), TypeError)],
)
def test_random_dictionary_refuses(
    arguments: tuple[int, int], kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        random_dictionary(*arguments)
    with pytest.raises(TypeError, match="int64"):
        random_dictionary(2, 2, dtype=torch.int64)
    with pytest.raises(TypeError, match="int64"):
        cosine_dictionary(2, 2, dtype=torch.int64)


def test_sparse_codes_refuses_wrong_shapes_and_types() -> None:
    right = {
        "codes": torch.zeros(2, 3),
        "residual_norm": torch.zeros(2),
        "iterations": torch.zeros(2, dtype=torch.int64),
        "converged": torch.ones(2, dtype=torch.bool),
        "gap": torch.zeros(2),
    }
    assert SparseCodes(**right).gap is right["gap"]
    wrong = {
        "codes": torch.zeros(3),
        "residual_norm": torch.zeros(3),
        "iterations": torch.zeros(2),
        "converged": torch.zeros(2),
        "gap": torch.zeros(2, 1),
    }
    for name, value in wrong.items():
        with pytest.raises(ValueError, match=name):
            SparseCodes(**right | {name: value})
