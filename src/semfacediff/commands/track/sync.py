"""``semfacediff track sync``: records to Weights & Biases after the runs are over, as often as one likes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from semfacediff import config
from semfacediff.errors import UserError
from semfacediff.records.folder import read_config, read_run
from semfacediff.records.mirroring import mode, wandb_id
from semfacediff.records.tracking import sync


def track_sync(folders: Sequence[Path], given: Mapping[str, object]) -> int:
    """Send every record that has something new; returns 0.

    Args:
        folders: of runs, whether they were tracked or not.
        given: options of ``conf/tracking/wandb.yaml`` that the user set; the others are those of the run, or else the
            file's.

    Raises:
        UserError: not a run, an option that is none, or W&B is absent or refuses. Records before it are sent.
    """
    for folder in folders:
        facts = read_run(folder)
        options = _options(folder, given)
        if not sync(folder, options):
            print(f"{folder}: nothing new")
        elif mode(options.mode) == "offline":
            copy = folder / "wandb" / f"offline-run-*-{wandb_id(facts)}"
            print(f"{folder}: written as W&B run {wandb_id(facts)}; upload it with: wandb sync {copy}")
        else:
            print(f"{folder}: sent as W&B run {wandb_id(facts)}")
    return 0


def _options(folder: Path, given: Mapping[str, object]) -> config.WandbTracking:
    """The ``tracking`` group that the run would be mirrored with."""
    defaults = yaml.safe_load((config.repository() / "conf" / "tracking" / "wandb.yaml").read_text())
    defaults["group"] = None  # the file takes it from the environment of a sweep
    plain = read_config(folder)
    try:
        own = plain["tracking"] if plain["tracking"]["name"] == "wandb" else {}
        name = plain["name"]
    except (KeyError, TypeError) as e:
        raise UserError(f"{folder / 'config.yaml'}: not a run's configuration ({type(e).__name__})") from e
    try:
        options = config.WandbTracking.model_validate(defaults | own | given)
    except ValueError as e:
        raise UserError(f"track sync: {' '.join(str(e).split())[:200]}") from e
    return options.model_copy(update={"group": options.group or name})
