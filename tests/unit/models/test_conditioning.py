"""How the organ enters the local path, the unknown organ, and a global path without context."""

from pathlib import Path

import pytest
import torch

from nuclass_pipeline.config.models import GateConfig
from nuclass_pipeline.models import checkpoint
from nuclass_pipeline.models.backbones import build_backbone
from nuclass_pipeline.models.gate import Gate, restore_gate
from nuclass_pipeline.models.global_ import GlobalClassifier, restore_global
from nuclass_pipeline.models.layers import CONDITIONINGS, UNKNOWN, Concatenation, FiLM, OrganEmbedding, Unconditioned
from nuclass_pipeline.models.local import LocalClassifier, restore_local
from tests.unit.models.test_classifiers import CONTEXT, DIM, GLOBAL, IMAGES, LOCAL, ORGAN, TINY, make_global, meta

ONES = torch.ones(1, 4)


def conditioned(name: str, **changes: object) -> LocalClassifier:
    torch.manual_seed(0)
    config = LOCAL.model_copy(update={"conditioning": name, **changes})
    return LocalClassifier(build_backbone(TINY), classes=3, organs=3, config=config).eval()


def test_concat_appends_the_embedding_to_the_normed_feature() -> None:
    layer = Concatenation(4, 2, 3)
    layer.embedding.weight.data = torch.tensor([[1.0, 2, 3], [4, 5, 6]])
    # Mean 2, standard deviation √2 to within the ε of the norm.
    feature = torch.tensor([[0.0, 4, 2, 2], [0, 4, 2, 2]])
    root = 2**0.5
    expected = torch.tensor([[-root, root, 0, 0, 4, 5, 6], [-root, root, 0, 0, 0, 0, 0]])
    torch.testing.assert_close(layer(feature, torch.tensor([1, UNKNOWN])), expected, atol=1e-4, rtol=0)


def test_none_is_the_norm_alone() -> None:
    layer = Unconditioned(4, 2, 3)
    assert [name for name, _ in layer.named_parameters()] == ["norm.weight", "norm.bias"]
    feature = torch.tensor([[0.0, 4, 2, 2]])
    root = 2**0.5
    torch.testing.assert_close(layer(feature, torch.tensor([0])), torch.tensor([[-root, root, 0, 0]]), atol=1e-4, rtol=0)


def test_film_of_the_unknown_organ_is_that_of_a_zero_embedding() -> None:
    film = FiLM(4, 2, 3)
    feature = torch.randn(1, 4)
    gamma, beta = film.modulation(torch.zeros(1, 3)).chunk(2, dim=-1)
    torch.testing.assert_close(film(feature, torch.tensor([UNKNOWN])), film.norm(feature) * (1 + gamma) + beta)


def test_known_organs_get_the_bits_of_a_plain_embedding() -> None:
    layer = OrganEmbedding(3, 8)
    plain = torch.nn.functional.embedding(ORGAN, layer.weight)
    assert torch.equal(layer(ORGAN), plain)
    layer(torch.tensor([1, UNKNOWN, UNKNOWN])).sum().backward()  # type: ignore[no-untyped-call]
    assert torch.equal(layer.weight.grad, torch.tensor([0.0, 1, 0])[:, None].expand(3, 8))


@pytest.mark.parametrize(("name", "dim"), [("film", DIM), ("concat", DIM + 8), ("none", DIM)])
def test_sizes_follow_the_conditioning(name: str, dim: int) -> None:
    path = conditioned(name)
    assert isinstance(path.conditioning, CONDITIONINGS[name])  # type: ignore[arg-type]
    output = path(IMAGES, ORGAN)
    assert (output.raw.shape, output.feature.shape, output.logits.shape) == ((4, DIM), (4, dim), (4, 3))
    assert meta(path, local=LOCAL.model_copy(update={"conditioning": name}), dims={"local": DIM, "global": 5}).feature_dims == {
        "local": dim,
        "global": 5,
    }


@pytest.mark.parametrize(("name", "matters"), [("film", True), ("concat", True), ("none", False)])
def test_the_organ_matters_unless_it_is_left_out(name: str, matters: bool) -> None:
    path = conditioned(name)
    first, second, unknown = (path(IMAGES, torch.full((4,), organ)).logits for organ in (0, 1, UNKNOWN))
    assert torch.equal(first, second) != matters
    assert torch.equal(first, unknown) != matters


@pytest.mark.parametrize("name", ["film", "concat", "none"])
def test_checkpoints_of_all_models_rebuild_the_conditioning(name: str, tmp_path: Path) -> None:
    local = conditioned(name)
    config = LOCAL.model_copy(update={"conditioning": name})
    described = meta(local, local=config, global_=GLOBAL, dims={"local": DIM, "context": DIM, "global": 32})
    path = GlobalClassifier(local, None, DIM, classes=3, config=GLOBAL).eval()
    small = GateConfig(projection=4, hidden=(6, 5))
    gate = Gate(described.feature_dims["local"], 32, small).eval()
    models = {"local": local, "global": path, "gate": gate}
    for kind, model in models.items():
        checkpoint.save_checkpoint(tmp_path / kind, model, described.model_copy(update={"kind": kind, "gate": small}))
    inner, found = restore_local(tmp_path / "local")
    assert found.local.conditioning == name
    output = inner(IMAGES, ORGAN)
    torch.testing.assert_close(output.logits, local(IMAGES, ORGAN).logits, rtol=0, atol=0)
    wide = restore_global(tmp_path / "global")[0](IMAGES, CONTEXT, ORGAN)
    torch.testing.assert_close(wide.logits, path(IMAGES, CONTEXT, ORGAN).logits, rtol=0, atol=0)
    p = output.logits.softmax(-1), wide.logits.softmax(-1)
    assert restore_gate(tmp_path / "gate")[0](output.feature, wide.feature, *p).shape == (4,)


def test_checkpoints_of_earlier_versions_name_the_layer_film(tmp_path: Path) -> None:
    path = make_global().eval()
    described = meta(path.local, kind="global", global_=GLOBAL, dims={"local": DIM, "context": DIM, "global": 32})
    state = {name.replace("conditioning.", "film."): tensor for name, tensor in path.state_dict().items()}
    assert "local.film.embedding.weight" in state
    torch.save({"format": checkpoint.FORMAT, "meta": described.model_dump(mode="json"), "state": state}, tmp_path / "old.ckpt")
    restored, _ = restore_global(tmp_path / "old.ckpt")
    torch.testing.assert_close(restored(IMAGES, CONTEXT, ORGAN).logits, path(IMAGES, CONTEXT, ORGAN).logits, rtol=0, atol=0)


def test_without_context_the_window_has_no_influence() -> None:
    encoder = build_backbone(TINY)
    path = GlobalClassifier(conditioned("film"), encoder, DIM, classes=3, config=GLOBAL.model_copy(update={"use_context": False})).eval()
    encoder.forward = lambda *_: pytest.fail("the encoder ran")  # type: ignore[method-assign]
    one, other = path(IMAGES, IMAGES, ORGAN), path(IMAGES, 1 - IMAGES, ORGAN)
    assert torch.equal(one.logits, other.logits)
    assert torch.equal(one.feature[:, 16:], one.feature[:1, 16:].expand(4, 16))
    assert not torch.allclose(one.logits, path(IMAGES.flip(0), IMAGES, ORGAN).logits)
    # As with the context, but for the vector, which is 0.
    used = GlobalClassifier(path.local, None, DIM, classes=3, config=GLOBAL)
    used.load_state_dict({name: tensor for name, tensor in path.state_dict().items() if not name.startswith("encoder.")})
    assert torch.equal(used.eval()(IMAGES, torch.zeros(4, DIM), ORGAN).logits, one.logits)


def test_an_organ_is_found_under_its_name_or_as_unknown() -> None:
    known = meta(conditioned("film"), organs=("lung", "liver"), trained_organs=("lung",))
    assert [known.organ_for(name) for name in ("lung", "liver", "unknown")] == ["lung", None, None]
    for changes in ({"organ_dropout": 0.1}, {"conditioning": "none"}):
        model = known.model_copy(update={"local": LOCAL.model_copy(update=changes)})
        assert model.usable_organs == ("lung", "unknown")
        asked = ("lung", "liver", "unknown", "other", "colon", "lugn")
        assert [model.organ_for(name) for name in asked] == ["lung", "unknown", "unknown", "unknown", "unknown", None]
    earlier = known.model_copy(update={"trained_organs": ()})
    assert (earlier.organ_for("liver"), earlier.organ_for("colon")) == ("liver", None)
