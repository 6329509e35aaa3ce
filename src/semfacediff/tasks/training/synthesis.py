"""``train_synthesis.py``: prepare photos and latents, train one of SCA-DM's stages, keep the record."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from accelerate import DistributedDataParallelKwargs, PartialState

from semfacediff import config
from semfacediff.data.counts import cache_folder
from semfacediff.data.opening import label_space_of, open_data
from semfacediff.data.selection import Data
from semfacediff.data.subset import Subset
from semfacediff.engine.processes import shared_record
from semfacediff.engine.provenance import identity
from semfacediff.errors import UserError
from semfacediff.records.columns import read_table
from semfacediff.records.folder import DONE, RunFolder
from semfacediff.records.samples import write_csv
from semfacediff.seeding import derive_seed
from semfacediff.synthesis.codebook import QuantisedAutoencoder
from semfacediff.synthesis.first_stage import FirstStage
from semfacediff.synthesis.first_stage_files import TrainedFirstStage, trained_first_stage
from semfacediff.synthesis.latents import prepared_faces, with_latents
from semfacediff.synthesis.model import SCADM, SCADMOptions
from semfacediff.synthesis.sampling import ddim_timesteps
from semfacediff.tasks.training.files import TrainingFiles
from semfacediff.tasks.training.launch import following_launcher
from semfacediff.tasks.training.progress_lines import ProgressLines
from semfacediff.tasks.training.record import keeping, log_every, training_processes, training_record
from semfacediff.tasks.training.step import new_accelerator
from semfacediff.tasks.training.synthesis_objectives import DiffusionObjective, FirstStageObjective, Objective
from semfacediff.tasks.training.synthesis_trainer import StepProgress, SynthesisTrainer


def train_synthesis(settings: config.SynthesisTraining, folder: Path) -> int:
    """Train one stage and leave ``checkpoints/average`` (for use) and ``checkpoints/last`` (to be continued).

    Under ``torchrun`` every process takes its share; the first one keeps the record.
    """
    settings = following_launcher(settings)
    state = training_processes(settings)
    # What can be refused cheaply comes before the photos are read.
    options = synthesis_options(settings, label_space_of(settings.data).n)
    start = _start(settings, options)
    parts = {part: open_data(settings.data, part, limit=settings.limit) for part in ("train", "val")}
    parts["val"] = _first(parts["val"], settings.steps.validate_photos)
    digests = {part: data.digest for part, data in parts.items()}
    inputs = digests | {"first_stage": start.digest if start else None}

    def opened() -> RunFolder:
        return training_record(settings, inputs, parts, folder, {"label_space": parts["train"].label_space.name})

    with shared_record(state, folder, identity(settings, inputs), opened) as (record, finished):
        lines = ProgressLines("step", settings.steps.steps, folder / "history.csv")
        with keeping(record, settings, functools.partial(_keep, lines)) as keep:
            if not finished:
                progress = _trained(settings, options, parts, start, folder, state, keep)
                if record:
                    record.close(DONE, steps_done=progress.step, best_step=progress.best_step)
        if record:
            TrainingFiles(folder, 1, state).refuse_foreign("average", "steps", record.facts["steps_done"])
            print(_report(folder))
    return 0


def _first(data: Data, n: int) -> Data:
    """The first ``n`` samples, under a digest of their own."""
    if len(data.faces) <= n:
        return data
    return dataclasses.replace(data, faces=Subset(data.faces, range(n)), digest=f"{data.digest}:{n}", n_expected=n)


def synthesis_options(settings: config.SynthesisTraining, classes: int) -> SCADMOptions:
    """Hyper-parameters of the model that ``settings`` ask for, for labels of ``classes`` classes.

    Raises:
        UserError: they make no network.
    """
    trained_null = settings.diffusion.null_dropout > 0
    try:
        return SCADMOptions(classes=classes, trained_null=trained_null, **settings.synthesis.model_dump())
    except UserError as e:
        raise UserError(f"synthesis.{e}") from e


def _start(settings: config.SynthesisTraining, options: SCADMOptions) -> TrainedFirstStage | None:
    """The first stage that the diffusion works in; ``None`` where it is trained itself.

    Raises:
        UserError: there is none, it does not fit, or pictures of it cannot be sampled as asked.
    """
    if settings.stage == "first":
        return None
    if settings.diffusion.sample_every_steps:
        ddim_timesteps(settings.diffusion.sample_steps, key="diffusion.sample_steps")
    return trained_first_stage(settings.first_stage.checkpoint, options)


def _trained(
    settings: config.SynthesisTraining,
    options: SCADMOptions,
    parts: dict[str, Data],
    start: TrainedFirstStage | None,
    folder: Path,
    state: PartialState,
    keep: Callable[[StepProgress], None],
) -> StepProgress:
    # The codebook of a first stage is not read in its first steps.
    sharing = DistributedDataParallelKwargs(find_unused_parameters=settings.stage == "first")
    accelerator, cache = new_accelerator(state.device, settings.steps.precision, sharing), cache_folder()
    with state.main_process_first():  # the others find what the first one prepared
        faces = {k: prepared_faces(d.faces, d.digest, options.image_size, cache) for k, d in parts.items()}
    torch.manual_seed(derive_seed(settings.seed, "init"))
    given = (settings.seed, accelerator.device, folder / "figures")
    objective: Objective
    if start is None:
        stage = FirstStage(options.vq_channels, options.vq_multipliers, options.vq_layers, options.vq_codes)
        net = QuantisedAutoencoder(stage.vq, settings.vq.commitment).to(accelerator.device)
        objective = FirstStageObjective(net, options, settings.vq, faces, *given)
    else:
        model = SCADM(options)
        model.first_stage = start.stage
        model.to(accelerator.device)
        how = (model.first_stage.encode, start.digest, settings.runtime.batch_size, accelerator.device, cache)
        with state.main_process_first():
            faces = {k: with_latents(faces[k], parts[k].digest, *how) for k in faces}
        objective = DiffusionObjective(model, settings.diffusion, faces, *given)
    files = TrainingFiles(folder, 1, accelerator, log_every(settings))
    return SynthesisTrainer(objective, settings.steps, settings.seed, files, keep).run()


def _keep(lines: ProgressLines, progress: StepProgress, record: RunFolder) -> None:
    write_csv(pd.DataFrame(progress.history), record.path / "history.csv")
    best = progress.best_loss if progress.best_step else None
    record.update(steps_done=progress.step, best_step=progress.best_step, best_val_loss=best)
    lines.show(progress.step, progress.history[-1])


def _report(folder: Path) -> str:
    """What a finished training left."""
    history = read_table(folder / "history.csv")
    last, best = history.iloc[-1], history.iloc[history["val_loss"].argmin()]
    return (
        f"step {last['step']:.0f}: training loss {last['train_loss']:.4f}, validation loss {last['val_loss']:.4f} "
        f"(lowest {best['val_loss']:.4f} at step {best['step']:.0f})\n\n"
        f"checkpoint: {folder / 'checkpoints' / 'average'}"
    )
