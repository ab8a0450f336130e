"""Weights of published layouts: a file for a network of timm, or a folder of transformers."""

import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

from nuclass_pipeline.config.backbones.section import BackboneConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import first_line
from nuclass_pipeline.io.tensor_files import check_model_folder, read_shapes, read_small_json
from nuclass_pipeline.models.encoders import Encoder
from nuclass_pipeline.models.networks.efficientnet_lite import refuse_other_padding, rename_lite
from nuclass_pipeline.models.networks.specs import check_spec, plain_spec
from nuclass_pipeline.models.weights import UNREADABLE, fill, read_tensors, refuse_nan, shapes_of, sketch

logger = logging.getLogger(__name__)

MAX_CONFIG = 100_000
"""Most bytes of a config.json; published ones have 1,000."""


def weights_file(config: BackboneConfig) -> Path:
    """Return the file that holds the tensors."""
    return Path(config.weights_files[0])


def read_config(config: BackboneConfig) -> tuple[Path, dict[str, Any]]:
    """Return config.json beside the weights, and what it says.

    Raises
    ------
    UserError
        If it is missing or broken.
    """
    file = weights_file(config).parent / "config.json"
    try:
        return file, read_small_json(file, MAX_CONFIG)
    except (OSError, ValueError) as error:
        raise UserError(file, "file", f"not a readable config.json ({first_line(error)})", config.remedy) from error


def load_network(config: BackboneConfig, spec: dict[str, Any], *, last: bool = False) -> Encoder:
    """Load a file of weights into a network of timm, strictly but for its classifier, which is left out.

    Parameters
    ----------
    config
        Where the weights are.
    spec
        Description of the encoder.
    last
        Whether the last stage of a network with stages is wanted, and not all.

    Raises
    ------
    UserError
        If the file is broken, or its tensors differ from those of the architecture.
    """
    from nuclass_pipeline.models.networks.timm_networks import is_plain_transformer, make_timm, stage_count, wrap_timm

    file = weights_file(config)
    try:
        check_spec(spec)
        outline = sketch(lambda: make_timm(spec))
        if last and not is_plain_transformer(outline):
            spec = spec | {"layers": [stage_count(outline) - 1]}
        _check_dim(config, sketch(lambda: wrap_timm(make_timm(spec), spec)).dim)
        tensors = read_tensors(file)
        refuse_other_padding(spec["architecture"], tensors)
        tensors = rename_lite(tensors, [len(stage) for stage in getattr(outline, "blocks", []) if hasattr(stage, "__len__")])
        net = fill(lambda: make_timm(spec), _without_classifier(tensors, outline, file))
        return wrap_timm(net, spec)
    except UNREADABLE as error:
        problem = f"the file does not fit {spec['architecture']} ({first_line(error)})"
        raise UserError(file, "weights", problem, config.remedy) from error


def _without_classifier(tensors: dict[str, Any], outline: Any, file: Path) -> dict[str, Any]:
    heads = outline.default_cfg.get("classifier") or ()
    # By the first part, because layers before the last belong to some classifiers.
    prefixes = tuple(f"{head.partition('.')[0]}." for head in ([heads] if isinstance(heads, str) else heads))
    wanted = outline.state_dict()
    dropped = [name for name in tensors if name.startswith(prefixes) and name not in wanted]
    if dropped:
        logger.info("%s: the classifier (%s) is left out", file, ", ".join(dropped))
    return {name: tensor for name, tensor in tensors.items() if name not in dropped}


def _check_dim(config: BackboneConfig, dim: int) -> None:
    own = config.features.layers is None and config.features.pool is None
    if own and config.entry.dim and dim != config.entry.dim:
        problem = f"the encoder returns vectors of {dim} values, but {config.name} has {config.entry.dim}"
        raise UserError(config.weights or "run file", "weights", problem, config.remedy)


def load_hub(config: BackboneConfig, kinds: tuple[str, ...], mean: tuple[float, ...], std: tuple[float, ...], **features: Any) -> Encoder:
    """Load a folder of transformers.

    Parameters
    ----------
    config
        Where the folder is.
    kinds
        What its config.json may give as `model_type`.
    mean, std
        Mean and standard deviation of the training images, RGB, values 0–1.
    **features
        `layers` and `pool` of the description.

    Raises
    ------
    UserError
        If the folder is of another model, or its tensors differ from those of its config.json.
    """
    from nuclass_pipeline.models.networks.hugging_face import make_config, model_class, wrap_hugging_face

    file, described = read_config(config)
    kind = described.get("model_type")
    if kind not in kinds:
        raise UserError(file, "model_type", f"{str(kind)[:40]!r} is none of {', '.join(kinds)}", config.remedy)
    try:
        check_model_folder(file.parent)
        if kind == "clip":
            kind, described = "clip_vision_model", {**described.get("vision_config", {}), "model_type": "clip_vision_model"}
        spec = plain_spec("transformers", kind, _plain(described), mean, std, **features)
        check_spec(spec)
        model, options = model_class(kind)
        outline = sketch(lambda: model(make_config(kind, spec["arguments"]), **options))
        _check_dim(config, sketch(lambda: wrap_hugging_face(model(make_config(kind, spec["arguments"]), **options), spec)).dim)
        net = _fill_hub(model, make_config(kind, spec["arguments"]), options, weights_file(config), outline)
    except UNREADABLE as error:
        raise UserError(file.parent, "weights", f"not loadable as {_title(kinds)} ({first_line(error)})", config.remedy) from error
    spec = plain_spec("transformers", kind, _plain(net.config.to_diff_dict()), mean, std, **features)
    return wrap_hugging_face(net.float(), spec)


def _title(kinds: tuple[str, ...]) -> str:
    return "DINOv3" if kinds == ("dinov3_vit",) else kinds[0] if len(kinds) == 1 else "a vision network of transformers"


def _fill_hub(model: Any, settings: Any, options: dict[str, Any], file: Path, outline: Any) -> Any:
    wanted = Counter(shapes_of(outline.state_dict()).values())
    tensors = None if file.suffix == ".safetensors" else read_tensors(file)
    # By shape, because transformers renames tensors; it compares the names itself.
    if short := wanted - Counter((read_shapes(file) if tensors is None else shapes_of(tensors)).values()):
        raise ValueError(f"{short.total()} tensors do not fit, one has no {list(next(iter(short)))}")
    tensors = {name: tensor for name, tensor in (read_tensors(file) if tensors is None else tensors).items() if _is_needed(name)}
    loaded: Any = model.from_pretrained(None, config=settings, state_dict=tensors, output_loading_info=True, **options)
    net, info = loaded
    # Checked here, because transformers itself fills missing tensors with random numbers.
    if wrong := [*info["missing_keys"], *filter(_is_needed, info["unexpected_keys"]), *map(str, info["mismatched_keys"])]:
        raise ValueError(f"{len(wrong)} tensors do not fit, the first is {sorted(wrong)[0]}")
    refuse_nan(net.state_dict().items())
    return net


def _is_needed(name: str) -> bool:
    """Return whether a tensor belongs to the encoder, and not to the text tower, a projection, a pooler or a classifier."""
    return not name.startswith(("text_model.", "text_projection.", "visual_projection.", "logit_scale", "pooler.", "classifier."))


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    # Without dtypes, because a description holds JSON values only and the network runs in float32 anyway.
    left_out = {"dtype", "torch_dtype"}
    kept: dict[str, Any] = json.loads(json.dumps({key: value for key, value in values.items() if key not in left_out}))
    return kept
