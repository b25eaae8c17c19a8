"""Compiled twins against the loops that they are made of."""

import subprocess
import sys
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_book.loops import ANY_ORDER, compile_loops


def step(average: float, number: float, share: float = 0.25) -> float:
    return average + share * (number - average)


def follow(signal: np.ndarray, averages: np.ndarray) -> None:
    average = 0.0
    for t in range(len(signal)):
        average = step(average, signal[t])
        averages[t] = average


def total(numbers: np.ndarray) -> float:
    found = 0.0
    for t in range(len(numbers)):
        found += numbers[t]
    return found


def inverse(number: float) -> float:
    return 1.0 / number


@cache
def twins(**options: Any) -> dict[str, Any]:
    return compile_loops(step, follow, total, inverse, **options)


numbers = st.floats(-1e6, 1e6, allow_subnormal=False)


@given(st.lists(numbers, max_size=40))
def test_a_twin_is_its_loop_to_the_last_bit(values: list[float]) -> None:
    signal = np.array(values, dtype=float)
    plain, quick = np.empty_like(signal), np.empty_like(signal)
    follow(signal, plain)
    twins()["follow"](signal, quick)
    assert np.array_equal(plain, quick)
    assert twins()["total"](signal) == total(signal)


def test_a_twin_means_the_twins_of_its_helpers() -> None:
    names: dict[str, Any] = {}  # of a module without a file
    exec("def help(x):\n    return x + 1\n", names)
    exec("def main(x):\n    return 2 * help(x)\n", names)
    pair = compile_loops(names["help"], names["main"])
    assert pair["main"](20) == names["main"](20) == 42
    assert len(pair["help"].signatures) == 1  # was called, with an integer
    with pytest.raises(Exception, match="help"):
        compile_loops(names["main"])["main"](20)


def test_defaults_are_kept() -> None:
    assert twins()["step"](0.0, 1.0) == 0.25
    assert twins()["step"](0.0, 1.0, 0.5) == 0.5


def test_the_loops_stay_as_they_are() -> None:
    twins()
    assert type(step) is type(follow) is type(mean)
    assert follow.__globals__["step"] is step


@given(st.lists(st.floats(0, 1), min_size=1, max_size=99), st.data())
def test_any_order_changes_last_digits_only(
    values: list[float], data: st.DataObject
) -> None:
    fast = compiled_in_any_order()
    numbers = np.array(values)
    assert fast(numbers) == pytest.approx(sum(values), rel=1e-13, abs=1e-300)
    numbers[data.draw(st.integers(0, len(values) - 1))] = np.nan
    assert np.isnan(fast(numbers))


@cache
def compiled_in_any_order() -> Any:
    return compile_loops(total, fastmath=ANY_ORDER)["total"]


def test_no_liberty_lets_a_compiler_forget_nan() -> None:
    assert not ANY_ORDER & {"fast", "nnan", "ninf"}


def test_options_reach_numba() -> None:
    loose = compile_loops(inverse, error_model="numpy")["inverse"]
    assert loose(0.0) == np.inf
    with pytest.raises(ZeroDivisionError):
        twins()["inverse"](0.0)
    assert twins()["inverse"].targetoptions["nogil"]
    kept = compile_loops(inverse, nogil=False)["inverse"]
    assert not kept.targetoptions["nogil"]


def test_without_a_folder_to_write_to(monkeypatch: pytest.MonkeyPatch) -> None:
    import numba

    translate, asked = numba.njit, []

    def refuse(*given: Any, **options: Any) -> Any:
        asked.append(options.get("cache", False))
        if asked[-1]:

            def fail(function: object) -> None:
                raise RuntimeError(f"cannot cache {function}: no locator")

            return fail
        return translate(*given, **options)

    monkeypatch.setattr(numba, "njit", refuse)
    assert compile_loops(inverse)["inverse"](4.0) == 0.25
    assert asked == [True, False]


def test_the_next_process_finds_it_on_disk(tmp_path: Path) -> None:
    module = tmp_path / "doubled.py"
    module.write_text("def double(x):\n    return 2 * x\n")
    program = (
        "from doubled import double\n"
        "from sparse_book.loops import compile_loops\n"
        "twin = compile_loops(double)['double']\n"
        "print(twin(21.0), sum(twin.stats.cache_hits.values()))\n"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            check=True,
            cwd=tmp_path,
            text=True,
        ).stdout
        for _ in range(2)
    ]
    assert said == ["42.0 0\n", "42.0 1\n"]


def test_importing_does_not_import_numba() -> None:
    program = (
        "import sys, sparse_book.loops, sparse_book.training.optimizers\n"
        "print('numba' in sys.modules)"
    )
    said = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=True,
        text=True,
    )
    assert said.stdout == "False\n"


def with_a_closure() -> Any:
    share = 0.5
    return lambda number: share * number


@pytest.mark.parametrize(
    ("functions", "kind", "message"),
    [
        ((), ValueError, "different names, got \\[\\]"),
        ((step, step), ValueError, "different names"),
        ((step, mean), ValueError, "not functions of one module"),
        ((with_a_closure(),), ValueError, "variables around it"),
        ((np.add,), TypeError, "not a Python function"),
        ((step, "follow"), TypeError, "'follow' is not a Python function"),
    ],
)
def test_bad_input(
    functions: tuple[Any, ...], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        compile_loops(*functions)
