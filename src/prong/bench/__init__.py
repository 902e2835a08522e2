"""The benchmark: how fast prong is here, from request to first useful output, beside something people know.

Words
-----
row       one figure: an id, how many measurements, p50 and p99 in milliseconds, or one value with a unit.
probe     a function that measures one or more rows.
baseline  the same job done without prong in the same run: a bare ``os.fork`` of a warm Python, or ``bwrap python3``.
pooled    the sandbox came from a pool of cells forked ahead of demand; rows say which they measure.

Nothing here asserts a time: it prints what it measured, with the machine it measured it on. Start reading at ``rows.py``.
"""
