"""Sparsely activated networks: the same by loops, by torch and together."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparse_book.san import network as page
from sparse_book.san.competition import competing_extrema
from sparse_book.san.extrema import SPARSE_ACTIVATIONS, sparse_activation
from sparse_book.san.network import (
    SparselyActivatedNetwork,
    measure_networks,
    train_networks,
)

SHAPES = [((40,), 1, 1), ((40,), 4, 2), ((9, 11), 3, 2), ((9, 11), 4, 3)]


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def torch_parts(
    signals: Tensor,
    kernels: Tensor,
    activation: nn.Module,
    tied: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return s, α and x̂ of one network, by torch's own convolution."""
    dimensions, side = kernels.ndim - 1, kernels.shape[-1]
    sizes = ((side - 1) // 2, side - 1 - (side - 1) // 2) * dimensions
    convolve = F.conv1d if dimensions == 1 else F.conv2d
    found = convolve(F.pad(signals, sizes), kernels[:, None])
    active = activation(found)
    if tied:
        turn = F.conv_transpose1d if dimensions == 1 else F.conv_transpose2d
        whole = turn(active, kernels[:, None])
        low = (side - 1) // 2
        for axis, length in enumerate(signals.shape[2:], 2):
            whole = whole.narrow(axis, low, length)
        return found, active, whole
    return found, active, convolve(F.pad(active, sizes), kernels[None])


@pytest.mark.parametrize(("size", "side", "count"), SHAPES)
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", SPARSE_ACTIVATIONS)
def test_network_is_what_torch_computes(
    size: tuple[int, ...], side: int, count: int, name: str, tied: bool
) -> None:
    x = draw(5, 1, *size)
    network = SparselyActivatedNetwork(
        side,
        count,
        activation=name,
        dimensions=len(size),
        tied=tied,
        generator=torch.Generator().manual_seed(1),
    ).double()
    found, active, total = torch_parts(
        x, network.weight, sparse_activation(name, side, 2), tied
    )
    parts = network.parts(x)
    torch.testing.assert_close(parts.similarities, found)
    torch.testing.assert_close(parts.activations, active)
    torch.testing.assert_close(parts.reconstruction, total)
    torch.testing.assert_close(network(x), total)
    assert parts.partial.shape == active.shape
    torch.testing.assert_close(parts.partial.sum(1, keepdim=True), total)


@pytest.mark.parametrize(("size", "side", "count"), SHAPES)
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", ["identity", "extrema", "max_pool_indices"])
def test_gradients_are_those_of_autograd(
    size: tuple[int, ...], side: int, count: int, name: str, tied: bool
) -> None:
    x = draw(5, 1, *size).requires_grad_()
    network = SparselyActivatedNetwork(
        side, count, activation=name, dimensions=len(size), tied=tied
    ).double()
    (network(x) - x).abs().mean().backward()
    y = x.detach().clone().requires_grad_()
    kernels = network.weight.detach().clone().requires_grad_()
    activation = sparse_activation(name, side, 2)
    _, _, total = torch_parts(y, kernels, activation, tied)
    (total - y).abs().mean().backward()
    torch.testing.assert_close(network.weight.grad, kernels.grad)
    torch.testing.assert_close(x.grad, y.grad)


@pytest.mark.parametrize(("size", "side", "count"), SHAPES)
def test_shifts_for_other_devices_are_the_compiled_loops(
    size: tuple[int, ...], side: int, count: int
) -> None:
    maps, kernels = (
        draw(2, 3, 2, *size),
        draw(2, count, 2, *[side] * len(size)),
    )
    before, sides = [(side - 1) // 2] * len(size), kernels.shape[3:]
    flat = page._flat(maps, sides, before)
    offsets = page._offsets(sides, size[-1])
    length = flat.shape[-1] - max(offsets)
    rows = draw(2, 3, count, length, seed=2)
    found = page._correlate_shifts(flat, kernels.flatten(3), offsets, length)
    slow = torch.zeros_like(found)
    for k, low in enumerate(offsets):
        slow += torch.einsum(
            "nbct,noc->nbot",
            flat[..., low : low + length],
            kernels.flatten(3)[..., k],
        )
    torch.testing.assert_close(found, slow)
    here = page._correlate(maps, kernels, before)
    elsewhere = found
    if len(size) == 2:
        width = size[-1] + side - 1
        wide = F.pad(found, (0, width - size[-1]))
        elsewhere = wide.unflatten(3, (size[0], width))[..., : size[-1]]
    assert torch.equal(here, elsewhere)
    slope = page._slope_shifts(flat, rows, offsets)
    loops = torch.zeros_like(slope)
    arrays = (flat.numpy(), rows.numpy(), page.np.asarray(offsets))
    page._compiled()[1](*arrays, loops.numpy())
    torch.testing.assert_close(slope, loops)


@pytest.mark.parametrize("dimensions", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_appears_where_there_is_nothing(
    dimensions: int, dtype: torch.dtype
) -> None:
    side, length = 3, 30
    x = torch.zeros(2, 1, *[length] * dimensions, dtype=dtype)
    x[..., 14] = 0.1 if dimensions == 1 else draw(2, 1, length).to(dtype)
    network = SparselyActivatedNetwork(
        side, 2, activation="identity", dimensions=dimensions
    ).to(dtype)
    window = F.max_pool1d if dimensions == 1 else F.max_pool2d
    touched = window((x != 0).to(dtype), side, 1, side // 2) > 0
    found = network.parts(x).similarities
    assert bool((found[~touched.expand_as(found)] == 0).all())
    assert bool((found != 0).any())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("side", [5, 64, 249])
def test_a_constant_stretch_gives_one_similarity(
    side: int, dtype: torch.dtype
) -> None:
    x = torch.full((1, 1, 1000), 0.7371, dtype=dtype)
    network = SparselyActivatedNetwork(side, activation="extrema").to(dtype)
    found = network.parts(x).similarities[..., side : 1000 - side]
    assert len(found.unique()) == 1


@pytest.mark.parametrize("name", SPARSE_ACTIVATIONS)
@pytest.mark.parametrize("dimensions", [1, 2])
def test_networks_trained_together_are_those_trained_alone(
    name: str, dimensions: int
) -> None:
    size = (50,) if dimensions == 1 else (9, 10)
    signals, validation = draw(3, 5, 1, *size), draw(3, 2, 1, *size, seed=1)
    settings = {
        "kernel_size": 4,
        "kernels": 2,
        "activation": name,
        "epochs": 4,
    }
    both = train_networks(signals, validation, [3, 1, 3], **settings)
    for k, seed in enumerate([3, 1, 3]):
        here = slice(k, k + 1)
        alone = train_networks(
            signals[here], validation[here], [seed], **settings
        )
        for one, all_ in zip(alone, both, strict=True):
            torch.testing.assert_close(one, all_[here], rtol=1e-9, atol=1e-9)


def test_training_is_the_algorithm_by_torch() -> None:
    x, v = draw(1, 5, 1, 60), draw(1, 2, 1, 60, seed=1)
    done = train_networks(
        x, v, [4], kernel_size=7, kernels=2, epochs=6, batch=2, version=1
    )
    generator = torch.Generator().manual_seed(4)
    kernels = 0.1 * torch.randn(2, 7, generator=generator)
    kernels = kernels.double().requires_grad_()
    optimizer = torch.optim.Adam([kernels], 0.01)
    activation = sparse_activation("extrema", 7, 2)
    phis, kept = [], []
    for _ in range(6):
        order = torch.randperm(5, generator=generator)
        for low in range(0, 5, 2):
            batch = x[0, order[low : low + 2]]
            optimizer.zero_grad()
            total = torch_parts(batch, kernels, activation)[2]
            (total - batch).abs().mean().backward()
            optimizer.step()
        _, active, total = torch_parts(v[0], kernels.detach(), activation)
        cost = (14 + 2 * (active != 0).sum((1, 2))) / 60
        loss = (total - v[0]).abs().sum((1, 2)) / v[0].abs().sum((1, 2))
        phis.append(float(((cost + loss) / 2).mean()))
        kept.append(kernels.detach().clone())
    torch.testing.assert_close(done.last_kernels[0], kept[-1])
    torch.testing.assert_close(done.first_phi[0].tolist(), phis)
    best = min(range(6), key=phis.__getitem__)
    assert int(done.epoch) == best + 1
    torch.testing.assert_close(done.kernels[0], kept[best])


class Competing(nn.Module):
    """Competing extrema for kernels of side 7, a module."""

    distance = 5

    def forward(self, similarities: Tensor) -> Tensor:
        """Choose a kernel size that gives the distance."""
        return competing_extrema(similarities, self.distance)


@pytest.mark.parametrize("tied", [False, True])
def test_options_are_what_torch_computes(tied: bool) -> None:
    x, v = draw(1, 4, 1, 60), draw(1, 2, 1, 60, seed=1)
    options = {"compete": True, "tied": tied}
    done = train_networks(
        x,
        v,
        [4],
        kernel_size=7,
        kernels=2,
        epochs=3,
        batch=4,
        first_distance=1,
        **options,
    )
    generator = torch.Generator().manual_seed(4)
    kernels = 0.1 * torch.randn(2, 7, generator=generator)
    kernels = kernels.double().requires_grad_()
    optimizer = torch.optim.Adam([kernels], 0.01)
    activation = Competing()
    for distance in (1, 3, 5):
        activation.distance = distance
        optimizer.zero_grad()
        total = torch_parts(x[0], kernels, activation, tied)[2]
        (total - x[0]).abs().mean().backward()
        optimizer.step()
    last = done.last_kernels[0]
    torch.testing.assert_close(last, kernels.detach())
    _, active, total = torch_parts(v[0], last, activation, tied)
    cost = (14 + 2 * (active != 0).sum((1, 2))) / 60
    loss = (total - v[0]).abs().sum((1, 2)) / v[0].abs().sum((1, 2))
    phi = float(torch.hypot(cost, loss).mean())
    assert float(done.phi[0, -1]) == pytest.approx(phi)
    seen = measure_networks(done.last_kernels, v, **options)
    assert float(seen.mean_phi()) == pytest.approx(phi)
    network = SparselyActivatedNetwork(7, 2, **options).double()
    with torch.no_grad():
        network.weight.copy_(last)
    torch.testing.assert_close(network(v[0]), total)


def test_measures_follow_their_definitions() -> None:
    kernels, x = draw(2, 3, 4, 4), draw(2, 5, 1, 12, 13, seed=1)
    seen = measure_networks(kernels, x, activation="extrema_pool_indices")
    for n in range(2):
        _, active, total = torch_parts(
            x[n], kernels[n], sparse_activation("extrema_pool_indices", 4)
        )
        counts = (active != 0).sum((1, 2, 3)).double()
        torch.testing.assert_close(seen.active[n], counts)
        error = (total - x[n]).abs().sum((1, 2, 3))
        torch.testing.assert_close(seen.loss[n], error / 156)
        ratio = error / x[n].abs().sum((1, 2, 3))
        torch.testing.assert_close(seen.normalized_loss[n], ratio)
        for cost, weights in (
            (seen.cost_by_sides, 12),
            (seen.cost_by_weights, 48),
        ):
            torch.testing.assert_close(cost[n], (weights + 3 * counts) / 156)
        phi = (((48 + 3 * counts) / 156) ** 2 + ratio**2).sqrt().mean()
        found = seen.mean_phi(2, "weights")[n]
        torch.testing.assert_close(found, phi)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel_size": 0}, "kernel_size must be"),
        ({"kernel_size": 51}, "kernel_size must be in 1…50"),
        ({"kernels": 0}, "kernels must be at least 1"),
        ({"activation": "step"}, "activation must be one of"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"lr": 0.0}, "lr must be above 0"),
        ({"version": 3}, "version must be in 1…2"),
        ({"counting": "all"}, "counting must be one of"),
        ({"border_tolerance": -1}, "border_tolerance must be at least 0"),
        ({"first_distance": 0}, "first must be at least 1"),
        ({"seeds": [0, -1]}, "seeds must be at least 0"),
        ({"activation": "relu", "compete": True}, "compete=True needs"),
        ({"seeds": [1]}, "signals must have shape"),
        ({"signals": draw(2, 3, 50)}, "signals must have shape"),
        ({"signals": draw(2, 3, 2, 50)}, "signals must have shape"),
        ({"signals": draw(2, 3, 1, 50) / 0}, "signals must be finite"),
        ({"validation": draw(2, 0, 1, 50)}, "validation must not be empty"),
    ],
)
def test_training_refuses(change: dict[str, object], message: str) -> None:
    settings: dict[str, object] = {
        "signals": draw(2, 3, 1, 50),
        "validation": draw(2, 2, 1, 50),
        "seeds": [0, 1],
        "kernel_size": 5,
    }
    with pytest.raises(ValueError, match=message):
        train_networks(**{**settings, **change})  # type: ignore[arg-type]


def test_network_refuses() -> None:
    with pytest.raises(ValueError, match="kernel_size must be at least 1"):
        SparselyActivatedNetwork(0)
    with pytest.raises(ValueError, match="kernels must be at least 1"):
        SparselyActivatedNetwork(3, 0)
    with pytest.raises(ValueError, match="dimensions must be in 1…2"):
        SparselyActivatedNetwork(3, dimensions=3)
    network = SparselyActivatedNetwork(5)
    with pytest.raises(ValueError, match="kernel_size must be in 1…4"):
        network(torch.zeros(1, 1, 4))
    with pytest.raises(ValueError, match="signals must be finite"):
        network(torch.full((1, 1, 9), torch.nan))
    with pytest.raises(ValueError, match="signals must have shape"):
        network(torch.zeros(1, 9))
    with pytest.raises(TypeError, match="signals must be float32 or float64"):
        network(torch.zeros(1, 1, 9).half())
