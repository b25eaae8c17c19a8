"""The blog's three networks: training, tables, claims."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from studies_for_tests import small_data
from torch.nn import functional as F

from sparse_book.networks.fully_connected import FullyConnected
from sparse_book.networks.joint import DECODERS, Joint
from sparse_book.networks.record import record
from sparse_book.studies import blog
from sparse_book.studies.claims import Claim, compare, published_values
from sparse_book.studies.registry import all_claims, all_studies
from sparse_book.training.ensemble import epoch_order, seeded_network
from sparse_book.training.results import (
    StudyResults,
    export_results,
    import_results,
    read_results,
)
from sparse_book.training.run import run_study
from sparse_book.training.store import Store
from sparse_book.training.study import Scale, Study, StudyData, tasks

SMALL = small_data()
BATCH = 25  # divides the 100 images


def even(part: tuple[torch.Tensor, torch.Tensor]) -> Any:
    """Images with even sides."""
    return F.pad(part[0], (0, 1, 0, 1)), part[1]


DATA: StudyData = replace(
    SMALL,
    train=even(SMALL.train),
    validation=even(SMALL.validation),
    test=even(SMALL.test),
)
PRICES = (0.0, 1e-3)


def little(study: Study, **changes: Any) -> Study:
    """A study of the article, for images of sixteen pixels."""
    settings: dict[str, Any] = {
        "vary": {"batch_price": PRICES},
        "scales": {"small": Scale("tiny", seeds=1, epochs=8)},
        "batch_size": BATCH,
    }
    return replace(study, **settings | changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Results of the three studies, exported."""
    place = tmp_path_factory.mktemp("blog")
    with Store(place / "store.sqlite") as store:
        for study in map(little, blog.STUDIES):
            options: dict[str, Any] = {"workers": 1, "progress": False}
            run_study(study, "small", store, data=DATA, **options)
            export_results(study, store, place)
    yield place


def trained_alone(
    study: Study, condition: Mapping[str, Any]
) -> tuple[FullyConnected | Joint, torch.Tensor]:
    """A network by the article's own formula: λ times the batch's sum.

    Returns:
        The network, and active units of each image of the last batch,
        before the last step.
    """
    network = seeded_network(lambda: study.build(condition, DATA), 0)
    assert isinstance(network, FullyConnected | Joint)
    descent = torch.optim.Adam(network.parameters(), 0.001, fused=False)
    images, labels = DATA.train
    active = torch.zeros(0)
    for epoch in range(8):
        for index in epoch_order(0, epoch, len(images)).split(BATCH):
            x, t = images[index], labels[index]
            with record(network, network.hidden_names) as heard:
                answer = network(x)
            (layer,) = heard.values()
            logits, *rest = answer if isinstance(answer, tuple) else (answer,)
            loss = F.cross_entropy(logits, t)
            for rebuilt in rest:
                loss = loss + (rebuilt - x).square().sum() / len(x)
            loss = loss + condition["batch_price"] * layer.sum()
            active = (layer > 0).flatten(1).sum(1).double()
            descent.zero_grad()
            loss.backward()
            descent.step()
    return network, active


@pytest.mark.parametrize("price", PRICES)
@pytest.mark.parametrize(
    ("study", "decoder"),
    [(blog.DENSE, ""), (blog.MAPS, ""), *((blog.JOINT, d) for d in DECODERS)],
    ids=["dense", "maps", *DECODERS],
)
def test_rows_equal_networks_trained_alone(
    folder: Path, study: Study, decoder: str, price: float
) -> None:
    condition: dict[str, Any] = {"decoder": decoder} if decoder else {}
    condition["batch_price"] = price
    network, active = trained_alone(study, condition)
    (row,) = read_results(study.name, folder).select(**condition)
    near = {"rel": 2e-3, "abs": 1e-6}
    assert row["batch_active_units"] == pytest.approx(
        float(active.mean()), **near
    )
    x, t = DATA.test
    with torch.no_grad(), record(network, network.hidden_names) as heard:
        answer = network(x)
    logits, *rest = answer if isinstance(answer, tuple) else (answer,)
    right = float((logits.argmax(1) == t).float().mean())
    assert row["test_accuracy"] == pytest.approx(right, abs=0.02)
    (layer,) = heard.values()
    on = (layer > 0).flatten(1)
    assert row["test_active_units"] == pytest.approx(
        float(on.sum(1).double().mean()), **near
    )
    assert row["test_l1"] == pytest.approx(float(layer.sum()) / len(x), **near)
    for rebuilt in rest:
        miss = float((rebuilt - x).square().sum()) / len(x)
        assert row["test_squared_error"] == pytest.approx(miss, **near)
    assert ("test_squared_error" in row) == bool(rest)


def test_a_price_silences(folder: Path) -> None:
    for study in blog.STUDIES:
        found = read_results(study.name, folder)
        free, priced = (
            found.values("test_l1", batch_price=p).mean() for p in PRICES
        )
        assert priced < free


def test_the_course_is_that_of_the_batches(folder: Path) -> None:
    found = read_results("blog-dense", folder)
    where = {"batch_price": 0.0, "seed": 0}
    steps = found.vector("course_step", **where)
    assert steps.tolist() == [20.0]  # 32 steps: one whole block
    accuracy = found.course("train_accuracy", **where)[0]
    course = found.vector("course_accuracy", **where)
    assert course[0] == pytest.approx(accuracy[:5].mean(), rel=1e-3)
    row = found.rows[0]
    history = found.course("test_accuracy", **where)[0]
    assert row["best_accuracy"] == history.max() and len(history) == 8


def test_blocks_of_steps() -> None:
    right = torch.arange(2600).double()
    ends, means = blog._blocks(right)
    assert ends[:2] == [20, 40] and ends[99:] == [2000, 2200, 2400, 2600]
    assert means[0] == 9.5 and means[-1] == pytest.approx(2499.5, rel=1e-3)
    assert blog._blocks(right[:7]) == ([7.0], [3.0])


def test_results_go_back_into_a_store(folder: Path, tmp_path: Path) -> None:
    study = little(blog.JOINT)
    options: dict[str, Any] = {"workers": 1, "progress": False}
    with Store(tmp_path / "store.sqlite") as store:
        assert import_results(study, store, folder, data=DATA) == 4
        report = run_study(study, "small", store, data=DATA, **options)
    assert (report.trained, report.found) == (0, 4)


def test_measures_do_not_depend_on_chunks() -> None:
    network = blog.build_blog_network(
        {"decoder": "subpixel"}, DATA, network="joint"
    )
    whole = blog.measure_blog(network, *DATA.test, chunk=10_000)
    assert set(whole) == {
        "accuracy",
        "active_units",
        "l1",
        "dead_units",
        "squared_error",
    }
    for chunk in (1, 7):
        parts = blog.measure_blog(network, *DATA.test, chunk=chunk)
        assert parts == pytest.approx(whole, rel=1e-5)


def test_bad_input_is_refused() -> None:
    network = blog.build_blog_network({}, DATA)
    x, t = DATA.test
    with pytest.raises(ValueError, match="chunk must be at least 1"):
        blog.measure_blog(network, x, t, chunk=0)
    with pytest.raises(ValueError, match="number of images"):
        blog.measure_blog(network, x[:0], t[:0])
    with pytest.raises(ValueError, match="'dense', 'maps', 'joint'"):
        blog.build_blog_network({}, DATA, network="deep")
    with pytest.raises(ValueError, match="'transposed', 'subpixel'"):
        blog.build_blog_network({"decoder": "no"}, DATA, network="joint")
    with pytest.raises(ValueError, match="even sides, got 3 x 3"):
        blog.build_blog_network({}, SMALL, network="maps")
    with pytest.raises(ValueError, match="study"):
        blog.blog_table(
            all_studies()["thesis-relu-1"], made(blog.DENSE, even_)
        )
    device = torch.device("cpu")
    for price, stop, error in [
        (-1.0, False, ValueError),
        (0.0, True, KeyboardInterrupt),
    ]:
        study = little(blog.DENSE, vary={"batch_price": (price,)})
        todo = tasks(study, "small", DATA)
        with pytest.raises(error):
            blog.train_blog(study, 1, todo, DATA, device, lambda s=stop: s)


def test_grids_are_the_published_ones() -> None:
    for number, study in enumerate(blog.STUDIES, 1):
        said = published_values(blog.FILE, f"table-{number}")
        prices = [row["penalty_per_batch_sum"] for row in said]
        assert list(study.vary["batch_price"]) == prices
        assert all_studies()[study.name] is study


# From a condition and a measure to a number.
Value = Callable[[Mapping[str, Any], str], float]
MEASURES = (
    "test_accuracy",
    "test_active_units",
    "batch_active_units",
    "test_squared_error",
    "best_accuracy",
    "best_active_units",
)


def made(study: Study, value: Value, keep: int | None = None) -> StudyResults:
    """Return results of a study with these values, for two seeds.

    The accuracy of batches rises in a line, to 1 after `value` of "steps".
    """
    rows, vectors = [], []
    ends = [float(20 * k) for k in range(1, 51)]
    for c in study.conditions("paper")[:keep]:
        for seed in range(2):
            start = {**c, "seed": seed}
            rows.append(start | {name: value(c, name) for name in MEASURES})
            line = [min(1.0, end / value(c, "steps")) for end in ends]
            for name, values in (("step", ends), ("accuracy", line)):
                vectors.append(
                    start | {"vector": f"course_{name}", "values": values}
                )
    return StudyResults(study.name, rows, [], vectors, {}, "paper")


def even_(c: Mapping[str, Any], name: str) -> float:
    """Nothing changes anything."""
    return 0.5 if name.endswith("accuracy") else 100.0


def far(c: Mapping[str, Any], name: str) -> float:
    """Nothing is as the article prints."""
    return 0.5 if name.endswith("accuracy") else 1e6


def theirs(c: Mapping[str, Any], name: str) -> float:
    """What the article prints."""
    column = {
        "test_accuracy": "test_accuracy",
        "batch_active_units": "average_active_units",
        "test_squared_error": "autoencoder_loss",
    }.get(name, "average_active_units")
    if name == "best_accuracy":
        return 0.981
    if name == "best_active_units":
        return 28.19
    number = 3 if "decoder" in c else c.get("table", 1)
    for row in published_values(blog.FILE, f"table-{number}"):
        if row["penalty_per_batch_sum"] == c["batch_price"]:
            value = float(row[column] or 1.0)
            # The article adds up the errors of a batch, we take the mean.
            summed = name == "test_squared_error"
            return value / blog.JOINT.batch_size if summed else value
    raise AssertionError(c)


def theirs_of_maps(c: Mapping[str, Any], name: str) -> float:
    return theirs({**c, "table": 2}, name)


def by_price(sign: float) -> Value:
    """Everything grows with the price, or falls."""

    def value(c: Mapping[str, Any], name: str) -> float:
        place = blog.PRICES.index(c["batch_price"])
        middle = 0.5 if name.endswith("accuracy") else 100.0
        return middle + sign * place * middle / 100

    return value


def faster(sign: float) -> Value:
    return lambda c, name: (
        by_price(-20 * sign)(c, name) if name == "steps" else even_(c, name)
    )


def by_decoder(sign: float) -> Value:
    def value(c: Mapping[str, Any], name: str) -> float:
        if name.endswith("accuracy"):
            return 0.5
        return 500 + sign * (300 if c["decoder"] == "transposed" else 0)

    return value


CASES: dict[str, tuple[Value, Value]] = {
    "few-units": (
        theirs,
        lambda c, n: even_(c, n) - 0.1 * (c["batch_price"] > 0),
    ),
    "local-codes": (theirs, even_),
    "best-before-end": (theirs, even_),
    "few-places": (
        theirs_of_maps,
        lambda c, n: 500 - 10 * (c["batch_price"] > 0),
    ),
    "learns-faster": (faster(1), faster(-1)),
    "learns-better": (by_price(1), by_price(-1)),
    "worse-pictures": (by_price(1), by_price(-1)),
    "subpixel": (by_decoder(1), by_decoder(-1)),
    "table-1": (theirs, far),
    "table-2": (theirs_of_maps, far),
    "table-3-transposed": (theirs, far),
    "table-3-subpixel": (theirs, far),
}
CLAIMS = {
    claim.name.removeprefix("blog-"): claim
    for claim in (*blog.CLAIMS, *blog.JOINT_CLAIMS, *blog.TABLE_CLAIMS)
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
    for artefact in blog.TABLES:
        study = all_studies()[artefact.study]
        value = theirs_of_maps if study is blog.MAPS else theirs
        rows = compare(artefact, made(study, value))
        assert len(rows) == len(study.vary["batch_price"])
        for row in rows:
            assert row.difference == pytest.approx(0.0, abs=1e-12)
    (dense,) = [a for a in blog.TABLES if a.name == "blog-table-1-active"]
    rows = compare(dense, made(blog.DENSE, theirs))
    assert [row.theirs for row in rows][1] == 5.41


def test_tables_show_both() -> None:
    text = blog.blog_table(blog.DENSE, made(blog.DENSE, theirs))
    lines = text.splitlines()
    assert len(lines) == 2 + 7
    assert lines[3].startswith("| 1e-05 | 97.43 (97.43) +0.00 | 5.41 (5.41)")
    joint = made(blog.JOINT, theirs)
    text = blog.blog_table(blog.JOINT, joint, decoder="subpixel")
    assert text.splitlines()[-1].count("|") == 6 and "4.012" in text
    quick = replace(joint, scale="quick")
    text = blog.blog_table(blog.JOINT, quick, decoder="subpixel")
    assert "| 0 | – (95.11) | – (38016) | – (0.0666) | – |" in text


def test_steps_to_a_level() -> None:
    results = made(blog.JOINT, faster(1))
    where = {"decoder": "subpixel", "batch_price": 0.0}
    assert blog.steps_to(results, 0.9, **where) == 100.0  # 90 of 100, by 20
    assert blog.steps_to(results, 1.1, **where) == math.inf
    assert math.isnan(blog.steps_to(results, 0.9, batch_price=7.0))
    with pytest.raises(ValueError, match="colour"):
        blog.steps_to(results, 0.9, colour="red")
