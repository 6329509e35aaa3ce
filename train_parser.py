"""Train a face parser: python train_parser.py parser=fastscnn_lite data=... [key=value ...]

python train_parser.py data=toy train.epochs=2 train.size=128
"""

import sys

from semfacediff import scripts

if __name__ == "__main__":
    scripts.start("train_parser", sys.argv[1:], "python train_parser.py")
