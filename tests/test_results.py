"""Exported results: whole, checked, and never mixed with others."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from studies_for_tests import small_data, tiny_study

from sparse_book.training.results import (
    MissingResultsError,
    export_results,
    import_results,
    read_results,
    results_or_quick,
)
from sparse_book.training.run import run_study
from sparse_book.training.store import SetAsideWarning, Store, StoreError

DATA = small_data()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store that holds the small study."""
    made = Store(tmp_path_factory.mktemp("store") / "s.sqlite")
    run_study(
        tiny_study(), "small", made, data=DATA, workers=1, progress=False
    )
    return made


def test_what_is_exported_is_what_the_store_holds(
    store: Store, tmp_path: Path
) -> None:
    export_results(tiny_study(), store, tmp_path)
    found = read_results("tiny", tmp_path)
    assert found.scale == "small"
    records = {
        (r.condition["hidden"], r.condition["coefficient"], r.seed): r
        for r in store.records()
    }
    assert len(found.rows) == len(records) == 12
    for row in found.rows:
        record = records[row["hidden"], row["coefficient"], row["seed"]]
        for name, value in record.measures.items():
            assert row[name] == pytest.approx(value, nan_ok=True)
    where = {"hidden": 5, "coefficient": 0.01}
    ours = found.values("test_accuracy", **where)
    theirs = [records[5, 0.01, seed] for seed in (0, 1)]
    np.testing.assert_allclose(
        ours, [r.measures["test_accuracy"] for r in theirs]
    )
    course = found.course("train_loss", **where)
    np.testing.assert_allclose(
        course, [[line["train_loss"] for line in r.history] for r in theirs]
    )
    np.testing.assert_allclose(
        found.vector("responses", **where), theirs[0].vectors["responses"]
    )
    assert found.axis("coefficient") == [0.0, 0.01, 0.1]


def test_exporting_twice_gives_the_same_files(
    store: Store, tmp_path: Path
) -> None:
    first = export_results(tiny_study(), store, tmp_path / "a")
    second = export_results(tiny_study(), store, tmp_path / "b")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_a_scale_is_whole_or_not_named(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as part:
        run_study(
            tiny_study(), "quick", part, data=DATA, workers=1, progress=False
        )
        export_results(tiny_study(), part, tmp_path)
    assert read_results("tiny", tmp_path).scale == "quick"
    longer = tiny_study(vary={"coefficient": (0.0, 0.02, 0.05)})
    with Store(tmp_path / "t") as other:
        run_study(
            tiny_study(), "quick", other, data=DATA, workers=1, progress=False
        )
        export_results(longer, other, tmp_path / "part")
    assert read_results("tiny", tmp_path / "part").scale == "part"


def test_results_go_back_into_a_store(store: Store, tmp_path: Path) -> None:
    study = tiny_study()
    export_results(study, store, tmp_path)
    with Store(tmp_path / "new") as new:
        assert import_results(study, new, tmp_path, data=DATA) == 12
        assert import_results(study, new, tmp_path, data=DATA) == 0
        report = run_study(
            study, "small", new, data=DATA, workers=1, progress=False
        )
        assert (report.trained, report.found) == (0, 12)
        files = export_results(study, new, tmp_path / "again")
        names = [path.name for path in files if path.suffix == ".csv"]
        again = read_results("tiny", tmp_path / "again")
    before = read_results("tiny", tmp_path)
    keep = [
        {k: v for k, v in row.items() if k != "ensemble"}
        for row in before.rows
    ]
    assert [
        {k: v for k, v in row.items() if k != "ensemble"} for row in again.rows
    ] == keep
    assert again.history == before.history and len(names) == 3


def test_results_of_other_data_do_not_go_back(
    store: Store, tmp_path: Path
) -> None:
    export_results(tiny_study(), store, tmp_path)
    other = small_data(count=126)
    with Store(tmp_path / "new") as new:
        with pytest.raises(ValueError, match="not from these data"):
            import_results(tiny_study(), new, tmp_path, data=other)
        assert new.records() == []


@settings(max_examples=40)
@given(data=st.data())
def test_damage_is_never_read(
    data: st.DataObject,
    store: Store,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("results")
    files = export_results(tiny_study(), store, folder)
    whole = read_results("tiny", folder)
    path = data.draw(st.sampled_from(files))
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] ^= 1 << data.draw(st.integers(0, 6))
    path.write_bytes(bytes(content))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SetAsideWarning)
        try:
            found = read_results("tiny", folder)
        except MissingResultsError:
            assert list(folder.glob("*.set-aside-1"))
            return
    # Only what describes the runs can change unnoticed, no row of a table.
    assert path.suffix == ".json"
    assert found.rows == whole.rows and found.vectors == whole.vectors


def test_another_version_is_set_aside(store: Store, tmp_path: Path) -> None:
    export_results(tiny_study(), store, tmp_path)
    index = tmp_path / "tiny.json"
    about = json.loads(index.read_text())
    index.write_text(json.dumps(about | {"version": 99}))
    with (
        pytest.warns(SetAsideWarning, match="version 99"),
        pytest.raises(MissingResultsError, match="sparse-book run tiny"),
    ):
        read_results("tiny", tmp_path)


def test_missing_results_say_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(MissingResultsError, match="sparse-book run nothing"):
        read_results("nothing", tmp_path)
    with (
        Store(tmp_path / "s") as empty,
        pytest.raises(MissingResultsError, match="--scale"),
    ):
        export_results(tiny_study(), empty, tmp_path)


def test_a_file_where_the_folder_should_be(
    store: Store, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        export_results(tiny_study(), store, tmp_path / "file")


def test_names_that_no_row_has_are_refused(
    store: Store, tmp_path: Path
) -> None:
    export_results(tiny_study(), store, tmp_path)
    found = read_results("tiny", tmp_path)
    with pytest.raises(ValueError, match="'hidden', 'coefficient'"):
        found.select(size=3)
    with pytest.raises(ValueError, match="'test_accuracy'"):
        found.values("accuracy", hidden=5)
    with pytest.raises(ValueError, match="no vector 'nothing'"):
        found.vector("nothing")
    assert found.select(hidden=99) == []


def test_without_results_a_page_runs_quickly_and_says_so(
    tmp_path: Path,
) -> None:
    from dataclasses import replace

    from sparse_book.studies.fully_connected import RELU_ONE
    from sparse_book.training.study import Scale

    study = replace(
        RELU_ONE,
        shape={"hidden": (4,)},
        scales={"quick": Scale("digits", seeds=1, epochs=1, every=8)},
    )
    with pytest.warns(UserWarning, match="Running it now at scale quick"):
        found = results_or_quick(study, tmp_path)
    assert found.scale == "quick" and len(found.rows) == 2
    assert found.provenance["data"] == "digits"
