"""Networks of timm, of transformers and of this package: how each is built, filled with weights, and read as an encoder."""
