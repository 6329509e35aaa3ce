"""A Slurm of one node in a temporary folder: its own key, ports and state; gone afterwards.

Debian's munge, slurmctld, slurmd and slurm-client. It works in a container without systemd or cgroups, has no
accounting, and leaves a Slurm of this machine alone.
"""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel")
CONFIGURATION = """
ClusterName=check
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=2
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=check Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing_programs() -> list[str]:
    return [name for name in PROGRAMS if shutil.which(name) is None]


@contextlib.contextmanager
def slurm_node(folder: Path) -> Iterator[None]:
    """Run a node with its files in ``folder``; ``SLURM_CONF`` names it to Slurm's commands meanwhile.

    Raises:
        RuntimeError: a daemon ended, or the node was not ready within a minute; with the last lines of the logs.
    """
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    key, configuration = folder / "munge.key", folder / "slurm.conf"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    folder.chmod(0o755)  # munged refuses a socket that others cannot reach
    facts = {"host": socket.gethostname().split(".")[0], "ports": _free_ports(2), "cpus": os.cpu_count()}
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    configuration.write_text(CONFIGURATION.format(folder=folder, user=user, **facts))
    munge = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
    munged = ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *munge]
    os.environ["SLURM_CONF"] = str(configuration)
    with contextlib.ExitStack() as stack:
        stack.callback(os.environ.pop, "SLURM_CONF")
        daemons = [stack.enter_context(_daemon(munged, folder))]
        _wait_for(lambda: (folder / "munge.socket").exists(), daemons, folder)
        for name in ("slurmctld", "slurmd"):
            daemons.append(stack.enter_context(_daemon([name, "-D", "-f", str(configuration)], folder)))
        _wait_for(lambda: "idle" in _said("sinfo", "--noheader", "--format=%T"), daemons, folder)
        yield


def _free_ports(n: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


@contextlib.contextmanager
def _daemon(command: list[str], folder: Path) -> Iterator[subprocess.Popen]:
    with open(folder / f"{command[0]}.log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(ready, daemons: list[subprocess.Popen], folder: Path) -> None:
    deadline = time.monotonic() + 60
    while not ready():
        if time.monotonic() > deadline or any(d.poll() is not None for d in daemons):
            logs = "\n".join(line for f in folder.glob("*.log") for line in f.read_text().splitlines()[-5:])
            raise RuntimeError(f"the Slurm node does not start:\n{logs}")
        time.sleep(0.2)


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout
