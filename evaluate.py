"""Benchmark an editor, a parser or SCA-DM: python evaluate.py [task=editing|parsing|synthesis] [key=value ...]

python evaluate.py data=toy data.n=8 parser=ground_truth editor=recolor metrics.on_missing=skip
python evaluate.py experiment=thesis/all data.root=DIR parser.checkpoint=RUN
python evaluate.py task=parsing data=folder data.root=DIR parser.checkpoint=RUN
python evaluate.py task=synthesis data=folder data.root=DIR generation.checkpoint=RUN
"""

import sys
from pathlib import Path

from semfacediff import cli, hydra_app


def task(cfg, folder):
    from semfacediff import config, runs

    settings = config.typed(cfg, config.EditingEvaluation, config.ParsingEvaluation, config.SynthesisEvaluation)
    return runs.start(settings, folder)


if __name__ == "__main__":
    if "experiment=thesis/all" in sys.argv:  # several runs of two scripts, which no preset can be
        sys.exit(cli.main(["thesis", "--run", *(w for w in sys.argv[1:] if w != "experiment=thesis/all")]))
    hydra_app.run("evaluate", task, Path(__file__).resolve().parent)
