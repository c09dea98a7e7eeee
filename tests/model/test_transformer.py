import pytest
import torch
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from illada_core.model.attention import Segments
from illada_core.model.config import ModelConfig
from illada_core.model.initial import new_model
from illada_core.model.kernels.linear import linear

TINY = ModelConfig(
    vocab_size=97,
    width=32,
    layers=2,
    heads=4,
    kv_heads=2,
    head_size=8,
    ffn_size=48,
    max_length=64,
    initializer_range=0.2,
)
CPU = torch.device("cpu")


def test_positions_restart_in_every_segment():
    segments = Segments.of((3, 4, 8), CPU)
    assert segments.positions_T.tolist() == [0, 1, 2, 0, 0, 1, 2, 3]
    assert segments.offsets_D1.tolist() == [0, 3, 4, 8]
    assert segments.longest == 4


def test_segments_met_in_inference_serve_training():
    with torch.inference_mode():
        segments = Segments.of((5, 6), CPU)
    assert Segments.of((5, 6), CPU) is segments
    assert not segments.offsets_D1.is_inference()
    assert not segments.positions_T.is_inference()


def test_segments_do_not_leak():
    model = new_model(TINY, seed=0)
    ids_T = torch.arange(40) % TINY.vocab_size
    before = model(ids_T, Segments.of((7, 19, 40), CPU))
    changed_T = ids_T.clone()
    changed_T[7:19] = 96
    after = model(changed_T, Segments.of((7, 19, 40), CPU))
    assert torch.equal(before[:7], after[:7])
    assert torch.equal(before[19:], after[19:])
    assert not torch.equal(before[7:19], after[7:19])


def test_a_segment_is_the_same_alone():
    model = new_model(TINY, seed=0)
    ids_T = torch.arange(40) % TINY.vocab_size
    packed = model.logits_at(ids_T, (7, 19, 40), torch.arange(7, 19))
    alone = model.logits_at(ids_T[7:19], (12,), torch.arange(12))
    torch.testing.assert_close(packed, alone, atol=1e-5, rtol=1e-5)


def test_asked_rows_are_those_of_all_rows():
    model = new_model(TINY, seed=0)
    ids_T, segments = torch.arange(40) % TINY.vocab_size, Segments.of((7, 19, 40), CPU)
    rows_M = torch.tensor([39, 0, 8, 8])
    torch.testing.assert_close(model(ids_T, segments, rows_M), model(ids_T, segments)[rows_M])
    assert model(ids_T, segments, rows_M[:0]).shape == (0, TINY.width)


@pytest.mark.parametrize("backend", ["sdpa", "matmul"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("asked", [[39, 0, 8, 8], [20, 21], [], list(range(40))])
def test_only_asked_rows_are_queries_of_the_last_layer(backend, dtype, asked):
    model = new_model(TINY, seed=0, compute_dtype=dtype, backend=backend)
    ids_T, segments = torch.arange(40) % TINY.vocab_size, Segments.of((7, 19, 40), CPU)
    rows_M = torch.tensor(asked, dtype=torch.int64)
    queries = []
    for layer in model.layers:
        layer.attention.query.register_forward_hook(lambda *met: queries.append(len(met[-1])))
    with torch.no_grad():
        hidden_MC = model(ids_T, segments, rows_M)
        expected_MC = model(ids_T, segments)[rows_M]
    assert queries == [40, len(asked), 40, 40]
    tolerance = 1e-5 if dtype == torch.float32 else 4e-2
    torch.testing.assert_close(hidden_MC, expected_MC, atol=tolerance, rtol=tolerance)


def test_masters_stay_float32_while_the_arithmetic_is_bfloat16():
    model = new_model(TINY, seed=0, compute_dtype=torch.bfloat16)
    hidden_TC = model(torch.arange(10), Segments.of((10,), CPU))
    assert hidden_TC.dtype == torch.bfloat16
    model.head(hidden_TC).float().square().sum().backward()
    assert {weight.grad.dtype for weight in model.parameters()} == {torch.float32}
    released = new_model(TINY, seed=0, dtype=torch.bfloat16)
    assert torch.equal(hidden_TC, released(torch.arange(10), Segments.of((10,), CPU)))


@pytest.mark.parametrize("family", ["illada", "llada"])
def test_weights_depend_on_seed_and_name_only(family):
    config = ModelConfig(**vars(TINY) | {"family": family, "tied": family == "illada", "pad_id": 1})
    first, again, other = (new_model(config, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["embedding.weight"], other["embedding.weight"])
    assert not torch.equal(first["layers.0.ffn.gate.weight"], first["layers.0.ffn.up.weight"])
    deepest = first["layers.1.ffn.down.weight"].std()
    usual = 48**-0.5 if family == "llada" else 0.2
    assert deepest == pytest.approx(usual / 2, rel=0.1)
    assert (first["embedding.weight"][1] == 0).all() == (family == "illada")


def test_activations_are_checkpointed_from_outside():
    gradients = []
    for wrapped in (False, True):
        model = new_model(TINY, seed=0)
        if wrapped:
            for place, layer in enumerate(model.layers):
                model.layers[place] = checkpoint_wrapper(layer)
        model(torch.arange(40), Segments.of((7, 40), CPU)).square().sum().backward()
        gradients.append([weight.grad for weight in model.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        assert torch.equal(plain, checkpointed)


def test_the_module_compiles_to_one_graph():
    model = new_model(TINY, seed=0)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    segments = Segments.of((7, 40), CPU)
    assert torch.equal(compiled(torch.arange(40), segments), model(torch.arange(40), segments))


def test_products_are_the_same_through_either_library():
    torch.manual_seed(0)
    for rows, inputs, outputs in ((1, 64, 320), (7, 64, 64), (300, 160, 64)):
        x_TC, weight_NC = torch.randn(rows, inputs), torch.randn(outputs, inputs)
        with torch.no_grad():
            fast = linear(x_TC, weight_NC)
        torch.testing.assert_close(fast, x_TC @ weight_NC.T, atol=1e-4, rtol=1e-5)
        assert linear(x_TC.requires_grad_(), weight_NC).requires_grad
        assert linear(x_TC.bfloat16(), weight_NC).dtype == torch.bfloat16
