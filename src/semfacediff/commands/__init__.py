"""The subcommands of ``semfacediff``: each file defines its arguments; the work is done beside them or in a task."""
