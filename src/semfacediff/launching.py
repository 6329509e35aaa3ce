"""Cells of a sweep as jobs of submitit: one line a cell as it ends, and no wait for a job that was killed.

Imported where the extra ``launchers`` is installed and ``hydra/launcher=submitit_slurm`` or ``submitit_local`` chosen.
The launchers of hydra-submitit-launcher ask ``sacct``, which needs an accounting database, and stop at the first lost
job; those here ask ``squeue``, which every Slurm has, and report every cell.
"""

import contextlib
import dataclasses
import io
import logging
import math
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import submitit
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from hydra_plugins.hydra_submitit_launcher import submitit_launcher
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
from submitit.core.utils import FailedJobError, FailedSubmissionError, UncompletedJobError
from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJob

from semfacediff.errors import EXIT_INCOMPLETE, UserError
from semfacediff.hydra_app import JobFailed, exit_codes, leave_stopped
from semfacediff.records.folder import DONE
from semfacediff.records.ledger import CRASHED, STATUS, note

_POLL_S = 0.5
_QUEUE_S = 30
"""Longest time between two calls of squeue; submitit begins with 2 s."""
_GONE = "GONE"
_ENDED = (
    f"BOOT_FAIL CANCELLED COMPLETED DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY PREEMPTED REVOKED TIMEOUT {_GONE}".split()
)


class QueueWatcher(SlurmInfoWatcher):
    """States of jobs from ``squeue``, which forgets a job minutes after its end; such a job is ``GONE``."""

    def is_done(self, job_id: str, mode: str = "standard") -> bool:
        return self.get_state(job_id, mode) in _ENDED

    def _make_command(self) -> list[str] | None:
        if not self._registered - self._finished:
            return None
        return ["squeue", "--array", "--states=all", f"--user={os.getuid()}", "--noheader", "--format=%i|%T"]

    def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
        text = string if isinstance(string, str) else string.decode()
        known = super().read_info("JobID|State\n" + text) if text.strip() else {}
        return {job: known.get(job, {"JobID": job, "State": _GONE}) for job in self._registered}


class _Reporting(submitit_launcher.BaseSubmititLauncher):
    """Submits the cells and prints a line for each; a cell that failed or was lost does not stop the others."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        logging.getLogger("submitit").setLevel(logging.CRITICAL)
        cells = [self._cell(overrides) for overrides in job_overrides]
        jobs = self._submitted(job_overrides, initial_job_idx)
        own = [[word for word in words if not all(word in o for o in job_overrides)] for words in job_overrides]
        job_id = jobs[0].job_id.split("_")[0]
        values: list[float | None] = [math.nan] * len(jobs)
        print(f"{len(jobs)} cells submitted, job {job_id}; logs in {jobs[0].paths.folder.parent}", flush=True)
        try:
            for count, (k, job) in enumerate(_as_they_end(jobs), start=1):
                code, line, values[k] = self._outcome(job, cells[k], job_overrides[k])
                exit_codes.append(code)
                print(f"{count}/{len(jobs)} {cells[k]} {' '.join(own[k])}: {line}", flush=True)
        except KeyboardInterrupt as e:
            jobs_left = f"the jobs run on (scancel {job_id} ends them); " if self._EXECUTOR == "slurm" else ""
            leave_stopped(e, f"{jobs_left}the same command continues this sweep")
        # exit_codes say which of them failed: an exception here would keep later batches from running.
        return [JobReturn(status=JobStatus.COMPLETED, _return_value=value) for value in values]

    def _cell(self, overrides: Sequence[str]) -> Path:
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        return Path(config.hydra.sweep.dir) / config.hydra.sweep.subdir

    def _submitted(self, job_overrides: Sequence[Sequence[str]], first: int) -> list[submitit.Job]:
        own = {"submitit_folder", "max_num_timeout"}  # of the executor; the others describe the jobs
        prefix, shared = f"{self._EXECUTOR}_", {field.name for field in dataclasses.fields(BaseQueueConf)}
        given = {f"{prefix}{k}": v for k, v in self.params.items() if k == "max_num_timeout"}
        described = {k if k in shared else f"{prefix}{k}": v for k, v in self.params.items() if k not in own}
        state = Singleton.get_state()
        calls = [(list(o), "hydra.sweep.dir", first + k, str(first + k), state) for k, o in enumerate(job_overrides)]
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # what sbatch says is part of the exception, too
                executor = submitit.AutoExecutor(self.params["submitit_folder"], cluster=self._EXECUTOR, **given)
                executor.update_parameters(**described)
                return executor.map_array(self, *zip(*calls, strict=True))
        except (FailedJobError, FailedSubmissionError) as e:
            raise UserError(
                f"the jobs cannot be submitted ({' '.join(str(e).split())}); check hydra.launcher.*, and set "
                "hydra.sweeper.max_batch_size=N where the cluster limits the size of a job array"
            ) from e

    def _outcome(self, job: submitit.Job, cell: Path, overrides: Sequence[str]) -> tuple[int, str, float | None]:
        """(exit code, first words of the cell's line, number to optimise or NaN) of a job that ended."""
        try:
            result = job.results()[0]
        except UncompletedJobError:  # killed, or its process could not even begin
            own = [word for word in overrides if not word.startswith("hydra")]
            note(cell.parent, cell.name, own, CRASHED, None)
            where = f"job {job.job_id} is {job.state}; see {job.paths.stderr}"
            return EXIT_INCOMPLETE, f"{CRASHED} ({where}; the same command continues)", math.nan
        if result.status == JobStatus.COMPLETED:
            return 0, DONE, result._return_value
        error = result._return_value
        if isinstance(error, JobFailed):
            return error.args[0], f"{STATUS[error.args[0]]} ({_last_line(job)})", math.nan
        return EXIT_INCOMPLETE, f"{CRASHED} ({error!r}; see {job.paths.stderr})", math.nan


class SlurmLauncher(_Reporting, submitit_launcher.SlurmLauncher):
    """``hydra/launcher=submitit_slurm``"""


class LocalLauncher(_Reporting, submitit_launcher.LocalLauncher):
    """``hydra/launcher=submitit_local``"""


def install() -> None:
    """Let Hydra use these launchers under the names of those that they extend."""
    SlurmJob.watcher = QueueWatcher(delay_s=_QUEUE_S)
    for launcher in (SlurmLauncher, LocalLauncher):
        Plugins.instance().class_name_to_class[f"{submitit_launcher.__name__}.{launcher.__name__}"] = launcher


def _as_they_end(jobs: Sequence[submitit.Job]) -> Iterator[tuple[int, submitit.Job]]:
    waiting = dict(enumerate(jobs))
    while waiting:
        for k, job in list(waiting.items()):
            if job.done():
                yield k, waiting.pop(k)
        time.sleep(_POLL_S)


def _last_line(job: submitit.Job) -> str:
    lines = (job.stderr() or "").strip().splitlines()
    return lines[-1] if lines else f"see {job.paths.stdout}"
