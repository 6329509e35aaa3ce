"""``semfacediff track sync``: uploads records to Weights & Biases after the runs; safe to repeat."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from semfacediff import config
from semfacediff.errors import UserError
from semfacediff.records.folder import read_config, read_run
from semfacediff.records.mirroring import wandb_id
from semfacediff.records.tracking import sync
from semfacediff.records.wandb_login import mode


def track_sync(folders: Sequence[Path], given: Mapping[str, object]) -> int:
    """Upload every record with new data; returns 0.

    Args:
        folders: of runs, tracked or not.
        given: options of ``conf/tracking/wandb.yaml`` set by the user; the others come from the run or the file.

    Raises:
        UserError: not a run, an invalid option, or W&B is missing or fails. Earlier records are uploaded.
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
    """The ``tracking`` group for the upload of the run."""
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
