"""What studies cost: the fit against a solver, the counts against sums."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import nnls
from studies_for_tests import tiny_study

from sparse_book.training.at_scale import (
    Cost,
    CostModel,
    asked_for,
    fit_costs,
    projected_seconds,
    stand_in,
)

DATA = stand_in((1, 3, 3), classes=3)


@pytest.mark.parametrize("seed", range(6))
def test_the_fit_is_that_of_a_solver_and_never_negative(seed: int) -> None:
    draw = np.random.default_rng(seed)
    steps, work, seconds = np.exp(draw.normal(size=(3, 8)))
    costs = [
        Cost("s", *map(float, three), 1)
        for three in zip(steps, work, seconds, strict=True)
    ]
    model = fit_costs(costs)
    table = np.stack([steps / seconds, work / seconds], axis=1)
    theirs, _ = nnls(table, np.ones(8))
    assert [model.step, model.product] == pytest.approx(theirs, abs=1e-12)


def test_counts_are_sums_over_the_grid() -> None:
    study = tiny_study()
    costs = {c.products: c for c in asked_for(study, "small", DATA, 110)}
    for hidden in (2, 5):
        cost = costs[2 * 110 * (9 * hidden + hidden * 3)]
        assert (cost.steps, cost.networks) == (2 * 5, 3 * 2)
    model = CostModel(1e-3, 1e-6)
    guess = projected_seconds(study, "small", model, DATA, 110)
    assert guess == pytest.approx(
        sum(c.networks * model.seconds(c) for c in costs.values())
    )
    twice = [
        Cost("tiny", c.steps, c.products, 2 * model.seconds(c), 1)
        for c in costs.values()
    ]
    more = projected_seconds(study, "small", model, DATA, 110, known=twice)
    assert more == pytest.approx(2 * guess)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="seconds"):
        fit_costs([])
    with pytest.raises(ValueError, match="seconds"):
        fit_costs([Cost("s", 1, 1, 0, 1)])
    with pytest.raises(ValueError, match="shape"):
        stand_in((0, 3))
    with pytest.raises(ValueError, match="images"):
        asked_for(tiny_study(), "small", DATA, 0)
    with pytest.raises(ValueError, match="'quick', 'small'"):
        asked_for(tiny_study(), "paper", DATA, 1)
