"""Stored networks say in the browser what they say here."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks_for_tests import (
    BUILD,
    RESULTS,
    lines,
    network_of,
    stored_digits,
)
from torch import Tensor

from sparse_book.networks.record import record
from sparse_book.show.stored_networks import (
    RoundedNetworks,
    read_digits,
    read_networks,
    restore_networks,
    round_networks,
    write_networks,
)

from conftest import ROOT

FIXTURES = ROOT / "tests" / "stored_networks.json"
SHOWN = (1, 8, 15)  # numbers of the digits that are compared
SILENCED = [0, 5]


def numbers(values: Tensor, step: int = 1) -> list[float]:
    """Return every so-manieth number, to twelve digits."""
    flat = values.flatten()[::step]
    return [float(f"{value:.12g}") for value in flat.tolist()]


@torch.no_grad()
def said(name: str, index: int, digit: Tensor) -> dict[str, object]:
    """Return what a network says of a digit, some numbers of each layer."""
    network = network_of(name, index)
    with record(network, network.hidden_names) as heard:
        output = network(digit[None])
    layers = [heard[layer][0] for layer in network.hidden_names]
    found: dict[str, object] = {
        "active": [int((layer > 0).sum()) for layer in layers],
        "layers": [numbers(part, 1 + part.numel() // 40) for part in layers],
    }
    if name != "rebuilding":
        return found | {"logits": numbers(output[0])}
    code = layers[1].clone()
    code[SILENCED] = 0
    quiet = network.decode(code[None])
    return found | {
        "error": float((output[0] - digit.flatten()).square().mean()),
        "image": numbers(output[0], 20),
        "silenced": numbers(quiet[0], 20),
    }


def fixtures() -> dict[str, list[dict[str, object]]]:
    """What the scripts are to say of some digits."""
    digits = stored_digits()
    return {
        name: [
            {"network": index, "digit": shown}
            | said(name, index, digits[shown])
            for index in range(
                len(read_networks(RESULTS / f"{name}.npz").coefficients)
            )
            for shown in SHOWN
        ]
        for name in BUILD
    }


def test_fixtures_are_pytorchs() -> None:
    """`python tests/test_stored_networks.py` writes them anew."""
    stored = json.loads(FIXTURES.read_text(encoding="utf-8"))
    assert stored["silenced"] == SILENCED
    found = fixtures()
    for name, cases in found.items():
        assert len(stored[name]) == len(cases)
        for one, other in zip(stored[name], cases, strict=True):
            assert one.keys() == other.keys()
            for key in one:
                if key == "layers":
                    pairs = zip(one[key], other[key], strict=True)
                else:
                    pairs = iter([(one[key], other[key])])
                for left, right in pairs:
                    assert left == pytest.approx(right, rel=1e-9, abs=1e-10)


def test_lines_and_files_belong_together() -> None:
    for name in BUILD:
        mine = lines(name)
        path = RESULTS / f"{name}.npz"
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert {line["sha256"] for line in mine} == {digest}
        prices = read_networks(path).coefficients.tolist()
        assert [float(line["coefficient"]) for line in mine] == prices
        assert prices[0] == 0 and prices == sorted(prices)
        assert all(line["checksum"] and line["command"] for line in mine)
    assert sum(p.stat().st_size for p in RESULTS.glob("*.npz")) < 2_500_000


def test_a_price_makes_networks_sparse() -> None:
    for name in BUILD:
        active = [float(line["active"]) for line in lines(name)]
        assert active == sorted(active, reverse=True)
        assert active[-1] < active[0] / 2


def test_digits_are_two_of_every_class() -> None:
    images, labels = read_digits(RESULTS / "digits.npz")
    assert labels.tolist() == [k // 2 for k in range(20)]
    assert images.shape == (20, 1, 28, 28)
    centres = images[:, 0] / images.sum((1, 2, 3))[:, None, None]
    rows = (centres.sum(2) * torch.arange(28)).sum(1)
    columns = (centres.sum(1) * torch.arange(28)).sum(1)
    assert (rows - 14).abs().max() < 1 and (columns - 14).abs().max() < 1


@given(st.integers(0, 2**31), st.floats(1e-6, 1e6))
def test_rounding_is_to_the_nearest_code(seed: int, size: float) -> None:
    draws = torch.Generator().manual_seed(seed)
    weights = size * torch.randn(2, 4, 3, generator=draws).double()
    rounded = round_networks({"weight": weights}, [0.0, 1.0])
    assert rounded.codes.abs().amax(1).tolist() == [127, 127]
    back = restore_networks(rounded, torch.float64)["weight"]
    half = rounded.scales.double()[:, :, None] / 2
    assert ((back - weights).abs() <= half * (1 + 1e-5)).all()
    scaled = round_networks({"weight": 4 * weights}, [0.0, 1.0])
    assert torch.equal(scaled.codes, rounded.codes)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    rounded = read_networks(RESULTS / "firing.npz")
    path = tmp_path / "broken.npz"
    whole = (RESULTS / "firing.npz").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    for read in (read_networks, read_digits):
        with pytest.raises(ValueError, match=r"broken\.npz"):
            read(path)
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "missing.npz")
    for damaged in (
        rounded._replace(codes=rounded.codes.float()),
        rounded._replace(scales=rounded.scales[:, 1:]),
        RoundedNetworks({"weight": (3,)}, *rounded[1:]),
    ):
        write_networks(path, damaged)
        with pytest.raises(ValueError, match=r"broken\.npz is damaged"):
            read_networks(path)
    np.savez(path, images=np.zeros((2, 28, 28)), labels=np.zeros(2))
    with pytest.raises(ValueError, match=r"broken\.npz is damaged"):
        read_digits(path)


if __name__ == "__main__":
    FIXTURES.write_text(
        json.dumps({"silenced": SILENCED} | fixtures(), allow_nan=False)
        + "\n",
        encoding="utf-8",
    )
