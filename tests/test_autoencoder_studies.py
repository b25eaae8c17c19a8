"""Studies of autoencoders: training, measures, published values, claims."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from studies_for_tests import small_data

from sparse_book.networks.autoencoder import SIZES, Autoencoder
from sparse_book.networks.record import record
from sparse_book.studies import autoencoders
from sparse_book.studies.claims import Claim, compare
from sparse_book.studies.registry import all_claims, all_studies
from sparse_book.training.ensemble import (
    Ensemble,
    epoch_order,
    seeded_network,
)
from sparse_book.training.results import (
    StudyResults,
    export_results,
    import_results,
    read_results,
)
from sparse_book.training.run import run_study
from sparse_book.training.store import Store
from sparse_book.training.study import Scale, Study, tasks

DATA = small_data()
PRICES = (0.0, 1e-3, 0.5)


def little(**changes: Any) -> Study:
    """The thesis's study, for images of nine pixels."""
    settings: dict[str, Any] = {
        "vary": {"coefficient": PRICES},
        "scales": {"small": Scale("tiny", seeds=2, epochs=3)},
        "batch_size": 30,
    }
    return replace(autoencoders.THREE_SIZES, **settings | changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Results of that study, exported."""
    place = tmp_path_factory.mktemp("autoencoders")
    with Store(place / "store.sqlite") as store:
        options: dict[str, Any] = {"workers": 1, "progress": False}
        run_study(little(), "small", store, data=DATA, **options)
        export_results(little(), store, place)
    yield place


def trained_alone(size: str, price: float, seed: int) -> Autoencoder:
    """An autoencoder, by torch's own loss and optimizer."""
    network = seeded_network(
        lambda: autoencoders.build_autoencoder({"size": size}, DATA), seed
    )
    assert isinstance(network, Autoencoder)
    descent = torch.optim.Adam(network.parameters())
    images = DATA.train[0]
    for epoch in range(3):
        for index in epoch_order(seed, epoch, len(images)).split(30):
            x = images[index].flatten(1)
            with record(network, network.hidden_names) as heard:
                loss = torch.nn.functional.mse_loss(network(x), x)
            for layer in heard.values():
                loss = loss + price * layer.abs().sum() / len(x)
            descent.zero_grad()
            loss.backward()
            descent.step()
    return network


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("price", PRICES)
def test_rows_equal_networks_trained_alone(
    folder: Path, size: str, price: float
) -> None:
    found = read_results("thesis-autoencoder", folder)
    assert len(found.rows) == 3 * 3 * 2
    for seed in (0, 1):
        network = trained_alone(size, price, seed)
        x = DATA.test[0].flatten(1)
        with torch.no_grad(), record(network, network.hidden_names) as heard:
            rebuilt = network(x)
        (row,) = found.select(size=size, coefficient=price, seed=seed)
        miss = (rebuilt - x).square().mean()
        assert row["test_error"] == pytest.approx(float(miss), rel=1e-4)
        total = 0.0
        for number, layer in enumerate(heard.values(), 1):
            active = float((layer > 0).double().sum(1).mean())
            assert row[f"active_units_{number}"] == pytest.approx(active)
            share = active / layer.shape[1]
            assert row[f"active_share_{number}"] == pytest.approx(share)
            l1 = float(layer.double().sum(1).mean())
            assert row[f"l1_{number}"] == pytest.approx(l1, rel=1e-3, abs=1e-6)
            total += active
        units = sum(network.sizes[1:-1])
        assert row["inactive"] == pytest.approx(1 - total / units, abs=1e-6)
        black = int((rebuilt == 0).all(0).sum())
        assert row["black_pixels"] == black


def test_copies_are_kept_of_first_networks(folder: Path) -> None:
    found = read_results("thesis-autoencoder", folder)
    assert {row["seed"] for row in found.vectors} == {0}
    where = {"size": "wide", "coefficient": 0.0}
    originals = torch.tensor(found.vector("original", **where)).reshape(3, 9)
    first = DATA.test[0][int((DATA.test[1] == 2).int().argmax())]
    assert originals[1].tolist() == (255 * first).round().flatten().tolist()
    network = trained_alone("wide", 0.0, 0)
    with torch.no_grad():
        copy = network((originals / 255).float())
    stored = torch.tensor(found.vector("rebuilt", **where).reshape(3, 9))
    torch.testing.assert_close(
        stored, (255 * copy).round().double(), atol=1.0, rtol=0
    )
    (row,) = found.select(**where, seed=0)
    miss = (copy - originals / 255)[0].square().mean()
    assert row["shown_error"] == pytest.approx(float(miss), rel=1e-3)


def test_answers_without_looking(folder: Path) -> None:
    found = read_results("thesis-autoencoder", folder)
    train, test = (part[0].flatten(1) for part in (DATA.train, DATA.test))
    row = found.rows[0]
    mean = float((test - train.mean(0)).square().mean())
    assert row["error_of_mean"] == pytest.approx(mean, rel=1e-5)
    black = float(test.square().mean())
    assert row["error_of_black"] == pytest.approx(black, rel=1e-5)
    assert row["pixels"] == 9


def test_results_go_back_into_a_store(folder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"workers": 1, "progress": False}
    with Store(tmp_path / "store.sqlite") as store:
        assert import_results(little(), store, folder, data=DATA) == 18
        report = run_study(little(), "small", store, data=DATA, **options)
    assert (report.trained, report.found) == (0, 18)


def test_measures_do_not_depend_on_chunks() -> None:
    networks = Ensemble(lambda: Autoencoder((9, 6, 4, 6, 9)), [3, 4, 5])
    images = DATA.test[0]
    whole = autoencoders.measure_rebuilding(networks, images, chunk=10_000)
    for chunk in (1, 7):
        parts = autoencoders.measure_rebuilding(networks, images, chunk=chunk)
        for one, other in zip(whole, parts, strict=True):
            torch.testing.assert_close(one, other)
    assert [tuple(part.shape) for part in whole] == [
        (3,),
        (3, 3),
        (3, 3),
        (3, 3),
        (3,),
    ]


def test_bad_input_is_refused() -> None:
    networks = Ensemble(lambda: Autoencoder((9, 6, 4, 6, 9)), [0])
    measure = autoencoders.measure_rebuilding
    with pytest.raises(ValueError, match="chunk must be at least 1"):
        measure(networks, DATA.test[0], chunk=0)
    with pytest.raises(ValueError, match="number of images"):
        measure(networks, DATA.test[0][:0])
    with pytest.raises(ValueError, match="9 numbers"):
        measure(networks, torch.rand(2, 1, 4, 4))
    with pytest.raises(ValueError, match="'narrow', 'equal', 'wide'"):
        autoencoders.build_autoencoder({"size": "huge"}, DATA)
    bright = replace(DATA, train=(DATA.train[0] + 1, DATA.train[1]))
    study = little()
    todo = tasks(study, "small", DATA)[:1]
    device = torch.device("cpu")
    with pytest.raises(ValueError, match="from 0 to 1"):
        autoencoders.train_autoencoders(
            study, 1, todo, bright, device, lambda: False
        )
    with pytest.raises(KeyboardInterrupt):
        autoencoders.train_autoencoders(
            study, 1, todo, DATA, device, lambda: True
        )


def test_sizes_are_the_published_ones() -> None:
    large = replace(DATA, train=(torch.zeros(1, 1, 28, 28), DATA.train[1]))
    for size, layers in SIZES.items():
        built = autoencoders.build_autoencoder({"size": size}, large)
        assert built.sizes == layers


def test_grids() -> None:
    whole = {round(5e-5 * k, 10) for k in range(20)}
    study = autoencoders.THREE_SIZES
    at = {
        scale: {c["coefficient"] for c in study.conditions(scale)}
        for scale in ("small", "paper")
    }
    assert at["paper"] == whole and len(study.conditions("paper")) == 60
    assert at["small"] < whole and len(at["small"]) == 10
    assert {0.0, 5e-5, 1e-4, 2e-4} <= at["small"]
    assert len(autoencoders.FASHION.conditions("paper")) == 20
    assert len(autoencoders.MILD.conditions("small")) == 7
    for one in (study, autoencoders.FASHION, autoencoders.MILD):
        assert all_studies()[one.name] is one


# From a condition, a measure and a λ in units of 1e-4 to a number.
Value = Callable[[Mapping[str, Any], str, float], float]


def made(study: Study, value: Value, keep: int | None = None) -> StudyResults:
    """Return results of a study with these values, for two seeds."""
    rows = []
    for c in study.conditions("paper")[:keep]:
        for seed in range(2):
            row: dict[str, Any] = {**c, "seed": seed}
            for name in ("test_error", "inactive", "shown_error"):
                row[name] = value(c, name, 1e4 * c["coefficient"])
            for kind in ("active_units", "active_share"):
                for layer in (1, 2, 3):
                    name = f"{kind}_{layer}"
                    row[name] = value(c, name, 1e4 * c["coefficient"])
            rows.append(row)
    return StudyResults(study.name, rows, [], [], {}, "paper")


def flat(c: Mapping[str, Any], name: str, price: float) -> float:
    return 0.01


def dip(c: Mapping[str, Any], name: str, price: float) -> float:
    return 0.008 if price == pytest.approx(0.5) else 0.01


def narrow_first(c: Mapping[str, Any], name: str, price: float) -> float:
    fall = 1.2 if c["size"] == "narrow" else 5.7
    return 0.01 if price < fall else 0.08


def wide_first(c: Mapping[str, Any], name: str, price: float) -> float:
    fall = 1.2 if c["size"] == "wide" else 5.7
    return 0.01 if price < fall else 0.08


def copies(c: Mapping[str, Any], name: str, price: float) -> float:
    """Without a price the wide network copies best, the narrow one next."""
    first = {"wide": 0.007, "narrow": 0.009, "equal": 0.011}
    return first[c["size"]] if not price else 0.02


def layers(sign: float) -> Value:
    def value(c: Mapping[str, Any], name: str, price: float) -> float:
        if name in ("test_error", "inactive"):
            return 0.01
        return 0.5 + (0.0 if name.endswith("_1") else sign * 0.1)

    return value


def hump(c: Mapping[str, Any], name: str, price: float) -> float:
    return (
        dip(c, name, price)
        if name == "test_error"
        else 30 - dip(c, name, price) * 100
    )


def hollow(c: Mapping[str, Any], name: str, price: float) -> float:
    return 30 - hump(c, name, price)


def bend(c: Mapping[str, Any], name: str, price: float) -> float:
    """Silence grows with the price, the error only at the very end."""
    silent = 0.45 if not price else 0.8 + 0.022 * min(price, 9)
    if name == "inactive":
        return silent
    return 0.01 if silent <= 0.9 else 0.03


def slope(c: Mapping[str, Any], name: str, price: float) -> float:
    """The error jumps at once and falls later."""
    if name == "inactive":
        return bend(c, name, price)
    return 0.01 if not price else 0.02 / (1 + price)


def twice(c: Mapping[str, Any], name: str, price: float) -> float:
    if name.startswith("active") and c["size"] == "wide":
        return 0.02
    return 0.01


CASES: dict[str, tuple[Value, Value]] = {
    "improves": (dip, flat),
    "narrow-sensitive": (narrow_first, wide_first),
    "first-sparsest": (layers(1), layers(-1)),
    "code-rises": (hump, hollow),
    "alike": (flat, twice),
    "flat": (bend, slope),
    "six": (copies, dip),
    "flat-between": (flat, lambda c, n, p: 0.01 + 0.1 * (p > 0)),
    "fashion-improves": (dip, flat),
    "fashion-first-sparsest": (layers(1), layers(-1)),
}
CLAIMS = {
    claim.name.removeprefix("thesis-autoencoder-"): claim
    for claim in (*autoencoders.CLAIMS, *autoencoders.NEW_CLAIMS)
}


def decide(claim: Claim, value: Value, keep: int | None = None) -> str:
    (name,) = claim.studies
    return claim.check(made(all_studies()[name], value, keep)).outcome


def test_every_claim_has_a_case() -> None:
    assert set(CASES) == set(CLAIMS)
    assert all(all_claims()[c.name] is c for c in CLAIMS.values())


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_claim_can_hold_and_fail(name: str) -> None:
    holds, fails = CASES[name]
    assert decide(CLAIMS[name], holds) == "reproduced"
    assert decide(CLAIMS[name], fails) == "not reproduced"


@pytest.mark.parametrize("name", sorted(CASES))
def test_what_is_missing_is_not_decided(name: str) -> None:
    assert decide(CLAIMS[name], CASES[name][0], keep=1) == "not run"


def test_published_values_find_their_places() -> None:
    results = made(autoencoders.THREE_SIZES, flat)
    rows = compare(autoencoders.FIGURE_4_14, results)
    assert sum(row.theirs is not None for row in rows) == 60
    table = {tuple(row.condition.values()): row.theirs for row in rows}
    assert table["narrow", 0.0] == 0.0131
    assert table["equal", 5e-5] == 0.0079
    assert table["wide", 9.5e-4] == 0.0785
    silent = compare(autoencoders.FIGURE_4_16, results)
    there = {
        tuple(row.condition.values()): row.theirs
        for row in silent
        if row.theirs is not None
    }
    assert len(there) == 40 and {size for size, _ in there} == {
        "equal",
        "wide",
    }
    for size in ("equal", "wide"):
        line = [there[size, round(5e-5 * k, 10)] for k in range(15)]
        assert line == sorted(line)  # more price, more silence
    assert there["wide", 0.0] == 43.932164


@pytest.fixture(scope="module")
def published() -> Value:
    """What the thesis itself shows."""
    nothing = made(autoencoders.THREE_SIZES, flat)
    tables = {
        name: {
            tuple(row.condition.values()): row.theirs
            for row in compare(artefact, nothing)
        }
        for name, artefact in (
            ("test_error", autoencoders.FIGURE_4_14),
            ("inactive", autoencoders.FIGURE_4_16),
        )
    }

    def value(c: Mapping[str, Any], name: str, price: float) -> float:
        theirs = tables.get(name, {}).get((c["size"], c["coefficient"]))
        if theirs is None:
            return math.nan
        return 0.01 * theirs if name == "inactive" else theirs

    return value


@pytest.mark.parametrize("name", ["improves", "narrow-sensitive", "flat"])
def test_the_thesis_passes_by_its_own_numbers(
    name: str, published: Value
) -> None:
    assert decide(CLAIMS[name], published) == "reproduced"


def test_critical_price() -> None:
    results = made(autoencoders.THREE_SIZES, narrow_first)
    price = autoencoders.critical_error_price
    assert price(results, "narrow") == pytest.approx(1.5e-4)
    assert price(results, "wide") == pytest.approx(6e-4)
    assert price(made(autoencoders.THREE_SIZES, flat), "wide") == math.inf
    assert math.isnan(price(results, "huge"))
