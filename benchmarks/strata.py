"""Time and CPU time of the scores by group of faces: python benchmarks/strata.py [photos]

20,000 photos with five attributes and nine scores (100,000 rows) by default, by each computed grouping.
"""

import sys
import time

import numpy as np
import pandas as pd

from semfacediff.records.strata import BY, by_stratum, gaps, strata_of

ATTRIBUTES = ["hair", "lips", "skin", "eyes", "eyebrows"]
UP = {
    **dict.fromkeys(("ssim", "iou", "clip", "psnr_outside"), True),
    **dict.fromkeys(("lpips", "seam", "geometry_shift_pct", "parts_lost", "latency_s"), False),
}


def samples(n: int) -> pd.DataFrame:
    """Rows of ``n`` photos with every attribute; some have no IoU."""
    random, every = np.random.default_rng(7), len(ATTRIBUTES)
    facts = {"ita_deg": random.normal(30, 20, n), "pose_proxy": random.normal(0, 0.05, n)}
    table = {name: np.repeat(values, every) for name, values in facts.items()}
    table |= {"sample_id": np.repeat([f"{i:06d}" for i in range(n)], every), "attribute": ATTRIBUTES * n}
    table |= {name: random.random(n * every) for name in ("coverage", *UP)}
    table["iou"][::17] = np.nan
    return pd.DataFrame(table)


def main() -> None:
    rows = samples(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
    for by in BY:
        start, cpu = time.perf_counter(), time.process_time()
        strata = strata_of(rows, by)
        by_stratum(rows, strata, list(UP))
        gaps(rows, strata, UP)
        print(f"{by}: {time.perf_counter() - start:.2f} s, {time.process_time() - cpu:.2f} s of CPU")


if __name__ == "__main__":
    main()
