"""Benchmarks of ``mbrl bench``: ours and the peers' at the same work, in one run, one after the other.

    bench = Bench(options, peers)                      options, how it is measured, and what has come of it so far
    for name in KINDS: registry of this folder         plan.py  loop.py  train.py  policy.py  ilqr.py, with
        measure(bench)                                 which adds rows, curves and points to ``bench.found``

One file for each kind; ``KINDS`` is the order in which ``mbrl bench all`` takes them.
"""

KINDS = ("policy", "plan", "ilqr", "train", "loop")
