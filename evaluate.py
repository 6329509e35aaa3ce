"""Benchmark an editor or score a parser: python evaluate.py [task=editing|parsing] [key=value ...]

python evaluate.py data=toy data.n=8 parser=ground_truth editor=recolor metrics.on_missing=skip
python evaluate.py task=parsing data=folder data.root=DIR parser.checkpoint=RUN
"""

from pathlib import Path

from semfacediff import hydra_app


def task(cfg, folder):
    from semfacediff import config, runs

    settings = config.typed(cfg, config.EditingEvaluation, config.ParsingEvaluation)
    return runs.start(settings, folder)


if __name__ == "__main__":
    hydra_app.run("evaluate", task, Path(__file__).resolve().parent)
