"""What tests of records share."""

from .wandb_stub import mirrored, stub  # noqa: F401  fixtures
