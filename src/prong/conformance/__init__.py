"""CPython's own regression suite, run inside cells: the proof of the kernel layer's ABI by software nobody here wrote.

Words
-----
Suite      the modules of ``test``, as regrtest finds them in the image ``testsuite``.
Case       one test method (or doctest, or failed fixture): the unit that is counted.
Outcome    passed, failed, error, skipped, expected (an expected failure), hung, crashed.
Refused    a case during which the layer recorded a call it refuses by design; such a case is left out of the rate.
Attempt    one cell running one module, or the rest of it after a case that hung or crashed.

Everything else counts, but for cases that the suite itself skips. One command makes all of it again::

    scripts/conformance --fast
    scripts/conformance --write-docs

Start reading at ``suite.py``, then ``attempt.py``; ``incell.py`` is what runs inside.
"""
