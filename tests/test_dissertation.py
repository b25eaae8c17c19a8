"""The dissertation's claims, decided from rows made for the purpose."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from sparse_book.studies import (
    batches,
    hyperparameters,
    open_questions,
    optimizers_baseline,
)
from sparse_book.studies.claims import Claim, compare
from sparse_book.studies.registry import all_studies
from sparse_book.training.results import StudyResults
from sparse_book.training.study import Study

# From a condition, a measure and the share of training that is over to 0…1.
Value = Callable[[Mapping[str, Any], str, float], float]
EPOCHS = 10
CLAIMS = {
    claim.name.removeprefix("dissertation-"): claim
    for claim in (
        *optimizers_baseline.CLAIMS,
        *hyperparameters.CLAIMS,
        *batches.CLAIMS,
        *batches.CLAIMS_MORE,
        *open_questions.CLAIMS,
    )
}


def measures_of(
    c: Mapping[str, Any], over: float, value: Value
) -> dict[str, float]:
    """Everything that a row holds."""
    row = {}
    for name in ("test_accuracy", "hoyer", "selectivity", "lower_within"):
        row[name] = value(c, name, over)
    for name in ("hoyer", "selectivity"):
        row[f"train_{name}"] = value(c, f"train_{name}", over)
        for layer in (1, 2, 3, 4, 5):
            row[f"{name}_{layer}"] = value(c, f"{name}_{layer}", over)
    return row


def made(study: Study, value: Value, keep: int | None = None) -> StudyResults:
    """Return results of a study with these values, for two seeds.

    Values may depend on the batch size, which is no axis of every study.
    """
    rows, history = [], []
    for condition in study.conditions("small")[:keep]:
        c = {"batch_size": study.batch_size, **condition}
        for seed in range(2):
            start = {**condition, "seed": seed}
            about = {"epochs": EPOCHS, "status": "finished", "ensemble": 1}
            rows.append(start | about | measures_of(c, 1.0, value))
            history += [
                start
                | {"epoch": k + 1}
                | measures_of(c, k / (EPOCHS - 1), value)
                for k in range(EPOCHS)
            ]
    return StudyResults(study.name, rows, history, [], {}, "small")


def flat(c: Mapping[str, Any], name: str, over: float) -> float:
    """Nothing changes anything, and nothing is learned."""
    return 0.1 if name == "test_accuracy" else 0.5


def by(axis: str, sign: float = 1.0, only: tuple[str, ...] = ()) -> Value:
    """Both measures grow along an axis, in the order of its values."""

    def value(c: Mapping[str, Any], name: str, over: float) -> float:
        if only and c.get("optimizer") not in only:
            return flat(c, name, over)
        place = c[axis]
        orders = ("shuffled", "classes-5", "classes-2", "classes-1", "sorted")
        if place in orders:
            place = orders.index(place)
        return 0.5 + sign * 1e-4 * float(place)

    return value


def where(test: Callable[..., bool], yes: float, no: float) -> Value:
    """Two values, by a test of condition, measure and progress."""
    return lambda c, name, over: yes if test(c, name, over) else no


def grows(c: Mapping[str, Any], name: str, over: float) -> float:
    sign = -1 if c["optimizer"] == "adagrad" else 1
    return 0.5 + sign * 0.3 * over


def shrinks(c: Mapping[str, Any], name: str, over: float) -> float:
    return 1 - grows(c, name, over)


def nearer(c: Mapping[str, Any], name: str, over: float) -> float:
    return 0.5 + (0.1 * (1 - over) if name.startswith("train_") else 0)


def further(c: Mapping[str, Any], name: str, over: float) -> float:
    return 0.5 + (0.1 * over if name.startswith("train_") else 0)


def wobbles(c: Mapping[str, Any], name: str, over: float) -> float:
    if name == "selectivity" and over > 0.9:
        return 0.0
    return over


def apart(c: Mapping[str, Any], name: str, over: float) -> float:
    return -over if name == "selectivity" else over


def rates(c: Mapping[str, Any], name: str, over: float) -> float:
    """Best: accuracy in the middle, sparsity beside, selectivity further."""
    place = {"test_accuracy": 7, "hoyer": 8, "selectivity": 9}.get(name, 7)
    grid = hyperparameters.STUDIES[1].vary["learning_rate"]
    return 0.9 - 0.01 * abs(grid.index(c["learning_rate"]) - place)


def one_rate(c: Mapping[str, Any], name: str, over: float) -> float:
    return rates(c, "test_accuracy", over)


def momentum(c: Mapping[str, Any], name: str, over: float) -> float:
    return c["momentum"] if c["momentum"] < 0.95 else 0.1


def through(c: Mapping[str, Any], name: str, over: float) -> float:
    layer = float(name[-1]) if name[-1].isdigit() else 0.0
    sign = -1 if c["optimizer"] == "adagrad" else 1
    return 0.5 + sign * 0.01 * layer


def best_batches(c: Mapping[str, Any], name: str, over: float) -> float:
    best = {"adagrad": 200, "adadelta": 50}.get(c["optimizer"], 1)
    return 0.6 if c["batch_size"] == best else 0.5


def forgets(sign: float) -> Value:
    def value(c: Mapping[str, Any], name: str, over: float) -> float:
        price = 10 * c["coefficient"]
        if name == "lower_within":
            return 0.95 if over < 0.5 else 0.6 + sign * price
        return 0.3 + price

    return value


def learned(c: Mapping[str, Any], name: str, over: float) -> float:
    """Accuracy differs between the optimizers: SGD is best."""
    return 0.9 if c["optimizer"] == "sgd" else 0.8


def fewer(sign: float) -> Value:
    raise_both = by("order", sign)

    def value(c: Mapping[str, Any], name: str, over: float) -> float:
        found = raise_both(c, name, over)
        return 1 - found if name == "test_accuracy" else found

    return value


def widths(c: Mapping[str, Any], name: str, over: float) -> float:
    falls = c["batch_size"] == 50 or name == "selectivity"
    return 0.5 + (-1 if falls else 1) * 1e-4 * c["units"]


def convolves(c: Mapping[str, Any], name: str, over: float) -> float:
    if c["front"] == "dense":
        return 0.5
    return 0.1 if c["optimizer"] == "adagrad" else 0.6


def both_small(c: Mapping[str, Any], name: str, over: float) -> float:
    return 0.1 if c["batch_size"] == 1 and c["momentum"] > 0 else 0.5


def both_large(c: Mapping[str, Any], name: str, over: float) -> float:
    return 0.9 if c["order"] != "shuffled" and c["units"] == 768 else 0.5


def fails(c: Mapping[str, Any], name: str, over: float) -> float:
    return 0.1 if c["optimizer"] in ("sgd", "adagrad") else 0.9


def opposite(value: Value) -> Value:
    return lambda c, name, over: 1 - value(c, name, over)


CASES: dict[str, tuple[Value, Value]] = {
    "trend": (grows, shrinks),
    "train-test": (nearer, further),
    "together": (wobbles, apart),
    "unaffected": (
        lambda c, n, o: 0.9 if n == "test_accuracy" else 0.1 * c["layers"],
        flat,
    ),
    "layers-raise": (by("layers"), by("layers", -1)),
    "layers-lower": (by("layers", -1), by("layers")),
    "five-layers": (fails, opposite(fails)),
    "through-layers": (through, opposite(through)),
    "weight-decay": (by("weight_decay", -1), by("weight_decay")),
    "rate-above-best": (rates, one_rate),
    "rates-differ": (rates, one_rate),
    "momentum": (
        momentum,
        lambda c, n, o: 0.9 if c["momentum"] > 0.95 else 0.5 - c["momentum"],
    ),
    "rho": (by("rho"), by("rho", -1)),
    "betas": (
        lambda c, n, o: c.get("beta1", 0) + c.get("beta2", 0),
        lambda c, n, o: -c.get("beta1", 0) - c.get("beta2", 0),
    ),
    "beta2-apart": (
        lambda c, n, o: (-1 if n == "hoyer" else 1) * c["beta2"],
        lambda c, n, o: (1 if n == "hoyer" else -1) * c["beta2"],
    ),
    "small-batches": (by("batch_size", -1), by("batch_size")),
    "best-batches": (best_batches, by("batch_size", -1)),
    "sgd-best-at-one": (learned, opposite(learned)),
    "begins-high": (lambda c, n, o: 1 - o, lambda c, n, o: o),
    "runs": (
        where(lambda c, n, o: c["order"] == "shuffled", 0.9, 0.8),
        where(lambda c, n, o: c["order"] == "shuffled", 0.8, 0.9),
    ),
    "steps-not-batches": (
        where(lambda c, n, o: c["order"] == "runs-10", 0.9, 0.8),
        where(lambda c, n, o: c["order"] == "runs-10", 0.8, 0.9),
    ),
    "units-raise": (by("units"), by("units", -1)),
    "units-except": (widths, opposite(widths)),
    "few-classes": (fewer(1), fewer(-1)),
    "convolutional": (
        convolves,
        lambda c, n, o: 0.6 if c["front"] == "dense" else 0.5,
    ),
    "sorted": (fewer(1), fewer(-1)),
    "sorted-others": (fewer(-1), fewer(1)),
    "sgd-combined": (both_small, opposite(both_small)),
    "adam-combined": (both_large, opposite(both_large)),
    "sparse-forgets-less": (forgets(1), forgets(-1)),
}


def test_every_claim_has_a_case() -> None:
    assert set(CASES) == set(CLAIMS)


def decide(claim: Claim, value: Value, keep: int | None = None) -> str:
    studies = all_studies()
    parts = [made(studies[name], value, keep) for name in claim.studies]
    return claim.check(*parts).outcome


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_claim_can_hold_and_fail(name: str) -> None:
    holds, fails_ = CASES[name]
    assert decide(CLAIMS[name], holds) == "reproduced"
    # "together" has two parts, of which one holds wherever anything moves
    wanted = "in part" if name == "together" else "not reproduced"
    assert decide(CLAIMS[name], fails_) == wanted


@pytest.mark.parametrize("name", sorted(CASES))
def test_what_is_missing_is_not_decided(name: str) -> None:
    if name in ("unaffected", "together"):
        pytest.skip("decided from whatever conditions there are")
    assert decide(CLAIMS[name], CASES[name][0], keep=1) == "not run"


def test_published_values_find_their_places() -> None:
    studies = all_studies()
    for artefacts, count in [
        (optimizers_baseline.FIGURE_5_1, 4),
        (optimizers_baseline.FIGURE_5_2, 4),
        (optimizers_baseline.TABLE_5_3, 20),
        (batches.FIGURE_5_17, 4),
    ]:
        for artefact in artefacts:
            rows = compare(artefact, made(studies[artefact.study], flat))
            assert sum(row.theirs is not None for row in rows) == count
    (adam,) = [
        row.theirs
        for row in compare(
            optimizers_baseline.TABLE_5_3[1],
            made(studies["dissertation-layers"], flat),
        )
        if row.condition == {"optimizer": "adam", "layers": 5}
    ]
    assert adam == 0.4513


def test_forgetting_by_its_definition() -> None:
    results = made(all_studies()["dissertation-forgetting"], forgets(1))
    where_ = {"optimizer": "sgd", "coefficient": 0.01}
    assert open_questions.forgotten(results, **where_) == pytest.approx(0.25)
    assert open_questions.sparsity_at_switch(
        results, **where_
    ) == pytest.approx(0.4)
    with pytest.raises(LookupError):
        open_questions.forgotten(results, optimizer="sgd", coefficient=7.0)


def test_missing_conditions_are_counted() -> None:
    study = all_studies()["dissertation-layers"]
    some = made(study, flat, keep=5)
    part = StudyResults(some.study, some.rows, [], [], {}, "part")
    note = optimizers_baseline.missing_note(study, part)
    assert "15 of 20" in note
    assert optimizers_baseline.missing_note(study, some) == ""
