"""Records hold one pass, every module once, every call, and leave nothing."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import (
    functional_call,
    grad,
    jacrev,
    stack_module_state,
    vmap,
)
from torch.nn.utils import parametrizations, parametrize
from torch.utils.data import DataLoader, TensorDataset

from sparse_book.measures.metrics import ActiveUnits, L1Norm
from sparse_book.networks.fully_connected import FullyConnected
from sparse_book.networks.record import (
    Activations,
    LayerActivity,
    layer_activities,
    record,
)


class Thesis(nn.Module):
    """One rectifier for all layers, as in the listings of the thesis."""

    def __init__(self, sizes: tuple[int, ...] = (5, 4, 3, 2)) -> None:
        super().__init__()
        pairs = pairwise(sizes)
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairs)
        self.relu = nn.ReLU()

    def forward(self, inputs: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            inputs = self.relu(layer(inputs))
        return self.layers[-1](inputs)


class Nested(nn.Module):
    """Containers in containers, one module under two names."""

    def __init__(self) -> None:
        super().__init__()
        block = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        self.stages = nn.ModuleList(
            [nn.ModuleDict({"a": block}), nn.ModuleDict({"b": block})]
        )
        self.tail = nn.Sequential(nn.Sequential(nn.Tanh()), nn.Linear(4, 2))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.tail(self.stages[1]["b"](self.stages[0]["a"](inputs)))


class Tree(nn.Module):
    """A network that calls itself."""

    def __init__(self) -> None:
        super().__init__()
        self.join = nn.Linear(3, 3)

    def forward(self, inputs: Tensor, depth: int) -> Tensor:
        if depth == 0:
            return inputs
        both = self(inputs, depth - 1) + self(inputs, depth - 1)
        return self.join(both)


def hooks(model: nn.Module) -> int:
    """Count the hooks of a model around its passes."""
    return sum(
        len(found)
        for module in model.modules()
        for name, found in vars(module).items()
        if name.startswith("_forward_") and hasattr(found, "__len__")
    )


@pytest.fixture
def thesis() -> Iterator[Thesis]:
    torch.manual_seed(0)
    model = Thesis()
    yield model
    assert hooks(model) == 0


def test_values_and_identity(thesis: Thesis) -> None:
    inputs = torch.randn(7, 5)
    with record(thesis, ["layers.0", "relu", thesis.layers[2]]) as heard:
        outputs = thesis(inputs)
    first = thesis.layers[0](inputs)
    assert list(heard) == ["layers.0", "relu[0]", "relu[1]", "layers.2"]
    assert heard.layers == ("layers.0", "relu", "layers.2")
    assert torch.equal(heard["layers.0"], first)
    assert torch.equal(heard["relu[0]"], first.relu())
    assert heard["layers.2"] is outputs
    assert len(heard) == 4 and heard.missing == ()
    assert [heard.layer_of(key) for key in heard][1:3] == ["relu", "relu"]
    assert "relu" not in heard and heard.get("relu") is None
    assert "'relu[1]': (7, 3)" in repr(heard)


@given(
    passes=st.integers(1, 4),
    times=st.integers(1, 3),
    batch=st.integers(1, 3),
    hidden=st.lists(st.integers(1, 4), min_size=1, max_size=4),
)
def test_one_pass_whatever_happened_before(
    passes: int, times: int, batch: int, hidden: list[int]
) -> None:
    model = Thesis((3, *hidden, 2))
    with record(model, ["relu"] * times) as heard:
        for _ in range(passes):
            model(torch.ones(batch, 3))
    shapes = [tuple(output.shape) for output in heard.calls("relu")]
    assert shapes == [(batch, units) for units in hidden]
    assert len(heard) == len(hidden)


def test_a_batch_of_one_and_a_layer_of_one_keep_their_axes() -> None:
    model = FullyConnected((3, 1, 2))
    with record(model, "hidden.0") as heard:
        model(torch.ones(1, 3))
    assert heard["hidden.0"].shape == (1, 1)


def test_nested_and_shared() -> None:
    model = Nested()
    layers = ["stages.1.b.1", "stages.0.a.1", "tail.0.0", "tail.0"]
    with record(model, layers) as heard:
        model(torch.randn(2, 4))
    name = "stages.1.b.1"
    assert heard.layers == (name, "tail.0.0", "tail.0")
    assert list(heard)[:2] == [f"{name}[0]", f"{name}[1]"]
    assert heard["tail.0.0"] is heard["tail.0"]
    assert len(heard.calls("stages.0.a.1")) == 2
    with record(model, model.stages[1]["b"]) as heard:
        model(torch.randn(2, 4))
    assert heard.layers == ("stages.0.a",)
    with record(model, "stages.1.b") as heard:
        model.stages[0]["a"](torch.ones(2, 4))
    assert heard["stages.0.a"] is heard["stages.1.b"]


def test_the_pass_is_the_outermost_call() -> None:
    model = Tree()
    with record(model, "join") as heard:
        for _ in range(2):
            model(torch.ones(1, 3), 3)
            assert len(heard.calls("join")) == 7
    assert hooks(model) == 0


def test_calls_outside_a_pass_add_up_until_the_next(thesis: Thesis) -> None:
    with record(thesis, "layers.0") as heard:
        thesis.layers[0](torch.ones(2, 5))
        thesis.layers[0](torch.ones(3, 5))
        assert [len(h) for h in heard.calls("layers.0")] == [2, 3]
        thesis(torch.ones(4, 5))
        assert len(heard["layers.0"]) == 4
        heard.clear()
        assert heard.missing == ("layers.0",) and not heard
    thesis(torch.ones(4, 5))
    assert not heard


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_exceptions_leave_nothing(
    thesis: Thesis, error: type[BaseException]
) -> None:
    def fail(*_: object) -> None:
        raise error("stop")

    handle = thesis.layers[1].register_forward_hook(fail)
    with pytest.raises(error), record(thesis, ["relu", "layers.2"]) as heard:
        thesis(torch.ones(2, 5))
    handle.remove()
    assert heard["relu"].shape == (2, 4) and heard.missing == ("layers.2",)


def test_a_pass_after_a_failed_one_starts_afresh(thesis: Thesis) -> None:
    with record(thesis, "relu") as heard:
        with pytest.raises(RuntimeError):
            thesis(torch.ones(2, 6))
        for _ in range(2):
            thesis(torch.ones(2, 5))
            assert len(heard) == 2


def test_other_hooks_stay_and_see_what_they_would_see(thesis: Thesis) -> None:
    seen: list[Tensor] = []

    def double(_: nn.Module, __: object, output: Tensor) -> Tensor:
        seen.append(output)
        return 2 * output

    handle = thesis.relu.register_forward_hook(double)
    with record(thesis, "relu") as heard:
        thesis(torch.ones(2, 5))
    assert torch.equal(heard["relu[0]"], 2 * seen[0])
    assert list(thesis.relu._forward_hooks.values()) == [double]
    handle.remove()


def test_reentrancy(thesis: Thesis) -> None:
    recording = record(thesis, "relu")
    with recording as outer:
        with pytest.raises(RuntimeError, match="open already"), recording:
            pass
        with record(thesis, "relu") as inner:
            thesis(torch.ones(2, 5))
        thesis(torch.ones(3, 5))
    assert len(inner["relu[0]"]) == 2 and len(outer["relu[0]"]) == 3
    with recording as again:
        thesis(torch.ones(4, 5))
    assert again is not outer and len(outer["relu[0]"]) == 3


def test_gradients_flow_and_can_be_switched_off(thesis: Thesis) -> None:
    inputs = torch.randn(3, 5)
    with record(thesis, "relu") as heard:
        thesis(inputs)
    heard["relu[0]"].sum().backward()
    expected = (thesis.layers[0](inputs) > 0).float().T @ inputs
    torch.testing.assert_close(thesis.layers[0].weight.grad, expected)
    with torch.no_grad(), record(thesis, "relu") as heard:
        thesis(inputs)
    assert not heard["relu[0]"].requires_grad
    with torch.inference_mode(), record(thesis, "relu") as heard:
        thesis(inputs)
    assert heard["relu[1]"].shape == (3, 3)


def test_memory_goes_with_the_record(thesis: Thesis) -> None:
    with record(thesis, "layers.0") as heard:
        thesis(torch.ones(2, 5))
        old = weakref.ref(heard["layers.0"])
        thesis(torch.ones(2, 5))
        gc.collect()
        assert old() is None
    last = weakref.ref(heard["layers.0"])
    del heard
    gc.collect()
    assert last() is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(thesis: Thesis, dtype: torch.dtype) -> None:
    with record(thesis.to(dtype), "relu") as heard:
        thesis(torch.ones(2, 5, dtype=dtype))
    assert heard["relu[1]"].dtype == dtype


def test_autocast(thesis: Thesis) -> None:
    with torch.autocast("cpu", torch.bfloat16), record(thesis, "relu") as h:
        thesis(torch.ones(2, 5))
    assert h["relu[0]"].dtype == torch.bfloat16


def test_copies_do_not_listen(thesis: Thesis) -> None:
    with record(thesis, ["relu", thesis]) as heard:
        copies = [copy.deepcopy(thesis), pickle.loads(pickle.dumps(thesis))]
        again = [pickle.loads(pickle.dumps(one)) for one in copies]
        thesis(torch.ones(2, 5))
        before = dict(heard)
        for one in copies + again:
            one(torch.ones(3, 5))
    assert list(before) == ["relu[0]", "relu[1]", ""]
    assert all(heard[key] is before[key] for key in before)
    for one in copies:
        with record(one, "relu") as other:
            one(torch.ones(3, 5))
        assert len(other["relu[0]"]) == 3
    assert hooks(copy.deepcopy(thesis)) == 0
    pickle.loads(pickle.dumps(thesis))


def test_parametrized_layers(thesis: Thesis) -> None:
    parametrizations.weight_norm(thesis.layers[0])
    with record(thesis, ["layers.0", "relu"]) as heard:
        thesis(torch.ones(2, 5))
    assert torch.equal(heard["relu[0]"], heard["layers.0"].relu())
    parametrize.remove_parametrizations(thesis.layers[0], "weight")
    with record(thesis, "layers.0") as heard:
        thesis(torch.ones(2, 5))
    assert heard["layers.0"].shape == (2, 4)


def test_attention() -> None:
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    tokens = torch.randn(3, 5, 8)
    for training in (True, False):  # evaluation has a fused way of its own
        encoder.train(training)
        with torch.no_grad(), record(encoder, "linear1") as heard:
            encoder(tokens)
        assert heard["linear1"].shape == (3, 5, 16)
    with (
        pytest.raises(TypeError, match=r"'self_attn' .* returned a tuple"),
        record(encoder, "self_attn"),
    ):
        encoder(tokens)
    with record(encoder, ["self_attn.out_proj", "linear1"]) as heard:
        encoder(tokens)
    assert heard.missing == ("self_attn.out_proj",)
    with pytest.raises(KeyError, match="did not run in the last pass"):
        heard["self_attn.out_proj"]
    assert hooks(encoder) == 0


def test_recurrent_layers_return_tuples() -> None:
    model = nn.LSTM(3, 4)
    with (
        pytest.raises(TypeError, match="returned a tuple"),
        record(model, model),
    ):
        model(torch.ones(2, 3))
    assert hooks(model) == 0


def test_overwritten_outputs_are_not_handed_out() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True))
    with record(model, ["0", "1"]) as heard:
        model(torch.randn(2, 3))
    assert (heard["1"] >= 0).all()
    for look in (lambda: heard["0"], lambda: heard.calls("0")):
        with pytest.raises(RuntimeError, match="'0' was overwritten"):
            look()
    with pytest.raises(RuntimeError, match="overwritten"):
        dict(heard)


def test_functional_call_under_vmap_and_grad() -> None:
    torch.manual_seed(1)
    models = [Thesis() for _ in range(3)]
    weights, _ = stack_module_state(models)  # type: ignore[arg-type]
    skeleton = copy.deepcopy(models[0]).to("meta")
    inputs = torch.randn(6, 5)

    def activity(weights: dict[str, Tensor], inputs: Tensor) -> Tensor:
        with record(skeleton, "relu") as heard:
            functional_call(skeleton, weights, (inputs,))
        return heard["relu[0]"].sum() + heard["relu[1]"].square().sum()

    values = vmap(activity, (0, None))(weights, inputs)
    slopes = vmap(grad(activity), (0, None))(weights, inputs)
    for index, model in enumerate(models):
        with record(model, "relu") as heard:
            model(inputs)
        alone = heard["relu[0]"].sum() + heard["relu[1]"].square().sum()
        torch.testing.assert_close(values[index], alone)
        names = ["layers.0.weight", "layers.1.bias"]
        expected = torch.autograd.grad(
            alone, [model.get_parameter(name) for name in names]
        )
        for name, slope in zip(names, expected, strict=True):
            torch.testing.assert_close(slopes[name][index], slope)
    assert hooks(skeleton) == 0


def test_per_image_gradients_and_jacobians(thesis: Thesis) -> None:
    inputs = torch.randn(4, 5)
    weights = {k: v.detach() for k, v in thesis.named_parameters()}

    def hidden(image: Tensor) -> Tensor:
        with record(thesis, "relu") as heard:
            functional_call(thesis, weights, (image[None],))
        return heard["relu[0]"][0]

    slopes = vmap(jacrev(hidden))(inputs)
    awake = (thesis.layers[0](inputs) > 0).float()
    expected = awake[:, :, None] * weights["layers.0.weight"]
    torch.testing.assert_close(slopes, expected)


def test_state_dict_and_training_mode_are_untouched(thesis: Thesis) -> None:
    before = thesis.state_dict().keys()
    with record(thesis, "relu"):
        assert thesis.state_dict().keys() == before
        assert thesis.training


BAD: list[tuple[object, type[Exception], str]] = [
    ("relu6", ValueError, "no layer 'relu6'; it has 'layers', 'layers.0'"),
    (["relu", "x"], ValueError, "no layer 'x'"),
    (nn.ReLU(), ValueError, "this ReLU is not part of the model"),
    ([], ValueError, "at least one module, got none"),
    ("layers", ValueError, "a ModuleList, which never runs itself"),
    (3, TypeError, "names or modules, got int"),
    ([None], TypeError, "names or modules, got NoneType"),
]


@pytest.mark.parametrize(("layers", "error", "words"), BAD)
def test_bad_layers(
    thesis: Thesis, layers: object, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        record(thesis, layers)  # type: ignore[arg-type]


def test_bad_model_and_bad_keys(thesis: Thesis) -> None:
    with pytest.raises(TypeError, match=r"torch\.nn\.Module, got function"):
        record(hooks, "relu")  # type: ignore[arg-type]
    with record(thesis, "relu") as heard:
        thesis(torch.ones(2, 5))
    with pytest.raises(KeyError, match="ran 2 times: ask for 'relu"):
        heard["relu"]
    for look in (heard.__getitem__, heard.calls, heard.layer_of):
        with pytest.raises(KeyError, match=r"no layer 'layers\.0' in this"):
            look("layers.0")
    with pytest.raises(KeyError):
        heard[0]  # type: ignore[index]
    with pytest.raises(TypeError):
        heard["relu[0]"] = torch.ones(2)  # type: ignore[index]
    assert isinstance(heard, Activations)


@given(
    sizes=st.lists(st.integers(0, 4), min_size=1, max_size=5),
    threshold=st.sampled_from([0.0, 0.1]),
)
def test_layer_activities_do_not_depend_on_the_cut(
    sizes: list[int], threshold: float
) -> None:
    if sum(sizes) == 0:
        sizes[0] = 1
    torch.manual_seed(sum(sizes))
    model, images = Thesis(), torch.randn(sum(sizes), 5)
    found = layer_activities(
        model, "relu", images.split(sizes), threshold=threshold
    )
    with torch.no_grad(), record(model, "relu") as heard:
        model(images)
    for key, output in heard.items():
        count, total = ActiveUnits(threshold), L1Norm()
        count.update(output)
        total.update(output)
        row = found[key]
        assert row[:2] == (output.shape[1], len(images))
        assert row.active_units == pytest.approx(float(count.compute()))
        assert row.l1_norm == pytest.approx(float(total.compute()), rel=1e-5)


def test_layer_activities_of_loaders_and_modes() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Dropout(), nn.BatchNorm2d(2)
    )
    model[2].eval()
    images = torch.rand(10, 1, 5, 5)
    loader = DataLoader(TensorDataset(images, torch.arange(10)), batch_size=4)
    found = layer_activities(model, "1", loader)
    assert isinstance(found["1"], LayerActivity)
    assert found["1"].units == 2 * 3 * 3 and found["1"].images == 10
    assert [m.training for m in model] == [True, True, False, True]
    assert model.training and model[3].num_batches_tracked == 0
    assert found == layer_activities(model, "1", [images])


def test_layer_activities_count_in_half_precision() -> None:
    model = nn.Sequential(nn.Identity())
    ones = torch.ones(3, 4001, dtype=torch.bfloat16)
    found = layer_activities(model, "0", [ones])
    assert found["0"].active_units == found["0"].l1_norm == 4001


def test_layer_activities_refuse(thesis: Thesis) -> None:
    images = torch.ones(4, 5)
    cases = [
        (images, TypeError, r"pass images\.split\(500\)"),
        ([], ValueError, "at least one image"),
        ([images[:0]], ValueError, "at least one image"),
        (["digits"], TypeError, "begin with one, got str"),
        ([images * torch.nan], ValueError, "NaN"),
    ]
    for batches, error, words in cases:
        with pytest.raises(error, match=words):
            layer_activities(thesis, "relu", batches)  # type: ignore
        assert thesis.training
    with pytest.raises(ValueError, match="threshold must be at least 0"):
        layer_activities(thesis, "relu", [images], threshold=-1)
    growing = nn.Sequential(nn.Identity())
    with pytest.raises(ValueError, match="changed between batches"):
        layer_activities(growing, "0", [torch.ones(2, 3), torch.ones(2, 4)])
    with pytest.raises(ValueError, match=r"shape \(batch, units\)"):
        layer_activities(growing, "0", [torch.ones(2)])
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    with pytest.raises(ValueError, match=r"'self_attn\.out_proj' did not run"):
        layer_activities(encoder, "self_attn.out_proj", [torch.ones(1, 2, 8)])
