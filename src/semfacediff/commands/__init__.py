"""The subcommands of ``semfacediff``: each states its arguments; what it does lies beside them, or in its task."""
