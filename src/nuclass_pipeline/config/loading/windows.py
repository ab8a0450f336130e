"""What models read of the windows of a slide: the windows themselves, or the features of a frozen encoder, computed once."""

from typing import Any

from nuclass_pipeline.config.backbones.section import BackboneConfig
from nuclass_pipeline.config.loading import requirements
from nuclass_pipeline.config.run_file import Config
from nuclass_pipeline.layout import files


class WindowSources:
    """Files of windows and features that the models of a run read.

    Attributes
    ----------
    config
        The run file.
    """

    config: Config

    @property
    def window_encoders(self) -> dict[str, tuple[BackboneConfig, int]]:
        """Key of the run file → an encoder and the side of its windows, px of `image.h5`."""
        image = self.config.image
        return {
            "local.backbone": (self.config.local.backbone, image.local_px),
            "global.context": (self.config.global_.context, image.context_px),
        }

    @property
    def frozen(self) -> dict[str, str]:
        """Key of the run file → file of the features, of each frozen encoder."""
        return {
            field: str(files.window_features).replace("{encoder}", encoder.name).replace("{px}", str(px)).replace("{key}", encoder.key)
            for field, (encoder, px) in self.window_encoders.items()
            if encoder.freeze
        }

    @property
    def local_windows(self) -> str:
        """File of a slide's crops."""
        return str(files.local_patches).replace("<local_px>", str(self.config.image.local_px))

    @property
    def context_windows(self) -> str:
        """File of a slide's context windows."""
        return str(files.context_patches).replace("<context_px>", str(self.config.image.context_px))

    @property
    def local_source(self) -> str:
        """What models read of a slide's crops."""
        return self.frozen.get("local.backbone", self.local_windows)

    @property
    def context_source(self) -> str:
        """What models read of a slide's context."""
        return self.frozen.get("global.context", self.context_windows)

    def frozen_field(self, wildcards: Any) -> str:
        """Return the key of the run file of the frozen encoder with this name, side of the windows and key."""
        wanted = files.window_features.format(slide="{slide}", encoder=wildcards.encoder, px=wildcards.px, key=wildcards.key)
        return next(field for field, path in self.frozen.items() if path == wanted)

    def frozen_section(self, wildcards: Any) -> dict[str, Any]:
        """Return the section of a frozen encoder as plain values, without what does not change its features."""
        encoder = self.window_encoders[self.frozen_field(wildcards)][0]
        return encoder.model_copy(update={"freeze": True, "gradient_checkpointing": False}).model_dump(mode="json")

    @property
    def frozen_weights(self) -> list[str]:
        """Files of the weights of all frozen encoders, for a rule that needs the encoders themselves."""
        return [path for field in self.frozen for path in requirements.encoder_weights(self, field)]  # type: ignore[arg-type]
