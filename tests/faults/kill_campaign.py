"""Kills every command at sampled operations on files, starts it again, and compares with a run in one piece.

``python tests/faults/kill_campaign.py [KILLS]`` (kills a command, default 5); prints tried, survived and broke.
By hand: 5 kills a command take about ten minutes.
"""

import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
KILLED_AT = Path(__file__).with_name("killed_at.py")
TOY = "data=toy data.size=64 runtime.workers=0 runtime.device=cpu tracking=none".split()
EVALUATE = [
    *TOY,
    *"data.count=8 parser=ground_truth editor=recolor metrics=no_weights attributes=[hair] strips=1".split(),
]
PARSER = (
    "parser=fastscnn_lite data.count=8 train.epochs=2 train.batch_size=4 train.size=64 train.checkpoint_every_steps=1 "
    "train.keep_last=2 optim.warmup_steps=1"
).split()
SYNTHESIS = (
    "stage=first synthesis=tiny synthesis.image_size=32 synthesis.vq_codes=16 synthesis.style_features=1 "
    "synthesis.style_down=3 synthesis.token_width=4 synthesis.unet_multipliers=[1] synthesis.attention_factors=[1] "
    "data.count=10 data.split_rule.modulo=5 vq.steps=4 vq.batch_size=2 vq.unquantised_steps=1 "
    "vq.validate_every_steps=2 vq.checkpoint_every_steps=2 vq.sample_every_steps=2"
).split()
COMMANDS = {
    "train_parser": ["train_parser.py", *TOY, *PARSER, "hydra.run.dir=out"],
    "train_synthesis": ["train_synthesis.py", *TOY, *SYNTHESIS, "hydra.run.dir=out"],
    "evaluate": ["evaluate.py", *EVALUATE, "hydra.run.dir=out"],
    "merge": ["cli", "merge", "parts/0", "parts/1", "--out", "out"],
    "prepare": ["cli", "prepare", "official", "--out", "out", "--workers", "1"],
    "edit": ["cli", "edit", "photos", "hair", "red hair", "--out", "out", "--editor", "recolor", "--device", "cpu"],
}
_VARYING = re.compile(r'"(latency_s|peak_memory_mib|wall_time_s|seconds|started|finished|when|photos_per_s)": [^,}\n]+')
_TIMED = ("summary.csv", "samples.parquet", "state.pt")
"""Files that hold times; what else is in them is in ``samples.jsonl`` or the weights, too."""


def run(name: str, at: int, here: Path) -> subprocess.CompletedProcess:
    """The command in ``here``, killed at its operation ``at`` on a file of ``out`` (0: not at all)."""
    script, *words = COMMANDS[name]
    script = REPOSITORY / ("src/semfacediff/cli.py" if script == "cli" else script)
    command = [sys.executable, KILLED_AT, str(at), "out", script, *words]
    return subprocess.run(list(map(str, command)), cwd=here, capture_output=True, text=True, timeout=600)


def contents(out: Path) -> dict[str, bytes | str]:
    """Every file but those whose bytes hold times, and JSON without its times and digests of such files."""
    found: dict[str, bytes | str] = {}
    for file in sorted(f for f in out.rglob("*") if f.is_file() and f.suffix not in (".pdf", ".lock")):
        data: bytes | str = file.read_bytes()
        if file.suffix in (".json", ".jsonl"):
            data = _VARYING.sub("", data.decode())
            data = re.sub(r'"files": \{[^}]*\}', "", data)
        found[str(file.relative_to(out))] = b"" if file.name in _TIMED else data
    return found


def prepared(here: Path) -> None:
    """What the commands read: parts to merge, an official tree, photos to edit."""
    import cv2

    from semfacediff.data.toy import ToyFaces
    from semfacediff.data.toy_official import write_official

    for index in (0, 1):
        words = [f"hydra.run.dir=parts/{index}", f"shard.index={index}", "shard.count=2"]
        script = [sys.executable, str(REPOSITORY / "evaluate.py"), *EVALUATE, *words]
        subprocess.run(script, cwd=here, check=True, capture_output=True)
    write_official(here / "official", [0, 20, 2001], 128, 64, groups=(0, 1, 2))
    (here / "photos").mkdir()
    for sample in list(ToyFaces(3, 64)):
        cv2.imwrite(str(here / "photos" / f"{sample.id}.png"), sample.photo[..., ::-1])


def campaign(name: str, kills: int, here: Path) -> tuple[int, list[str]]:
    """(kills tried, a sentence for each after which the files at the end were others) of one command."""
    out = here / "out"
    whole = run(name, 0, here)
    if whole.returncode:
        return 0, [f"in one piece: exit {whole.returncode}: {whole.stderr[-300:]}"]
    operations, expected = int(re.findall(r"operations: (\d+)", whole.stderr)[-1]), contents(out)
    broke = []
    places = sorted(random.Random(name).sample(range(1, operations + 1), min(kills, operations)))
    for at in places:
        shutil.rmtree(out)
        killed, again = run(name, at, here), run(name, 0, here)
        found = contents(out)
        other = [f for f in expected.keys() | found.keys() if expected.get(f) != found.get(f)]
        if killed.returncode != -9 or again.returncode or other:
            said = again.stderr.strip().splitlines()[-1:] if again.returncode else sorted(other)
            broke.append(f"operation {at} of {operations}: exits {killed.returncode}, {again.returncode}; {said}")
    shutil.rmtree(out)
    return len(places), broke


def main(kills: int) -> int:
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        prepared(here)
        for name in COMMANDS:
            tried, broke = campaign(name, kills, here)
            failed += len(broke)
            print(f"{name:16} tried {tried:3}  survived {tried - len(broke):3}  broke {len(broke):3}", flush=True)
            print(*(f"    {said}" for said in broke), sep="\n", end="\n" * bool(broke))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5))
