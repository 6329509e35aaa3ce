"""Benchmark an editor, a parser or SCA-DM: python evaluate.py [task=editing|parsing|synthesis] [key=value ...]

python evaluate.py data=toy data.n=8 parser=ground_truth editor=recolor metrics.on_missing=skip
python evaluate.py experiment=thesis/all data.root=DIR parser.checkpoint=RUN
python evaluate.py task=parsing data=folder data.root=DIR parser.checkpoint=RUN
python evaluate.py task=synthesis data=folder data.root=DIR generation.checkpoint=RUN
"""

import sys

from semfacediff import scripts

if __name__ == "__main__":
    scripts.start("evaluate", sys.argv[1:], "python evaluate.py")
