"""Debian's scientific Python in the default template: what notebooks do."""

from __future__ import annotations

import pytest

from prong.cell.engine import Cell

pytestmark = [pytest.mark.kvm, pytest.mark.timeout(600)]


def test_matplotlib_draws(cell: Cell) -> None:
    code = """\
import matplotlib.pyplot as plt, numpy as np
x = np.linspace(0, 6, 200)
fig, (left, right) = plt.subplots(1, 2, figsize=(6, 3), dpi=50)
left.plot(x, np.sin(x), label=r"$\\sin x$"); left.legend(); left.set_title("lines")
right.hist(np.random.default_rng(0).normal(size=500), bins=20); right.imshow([[0, 1], [1, 0]], alpha=0.1)
fig.savefig("/tmp/a.png"); fig.savefig("/tmp/a.svg"); fig.savefig("/tmp/a.pdf")
from PIL import Image
image = Image.open("/tmp/a.png").convert("RGB")
image.size, len(set(image.getdata())) > 50, open("/tmp/a.pdf", "rb").read(5), "<svg" in open("/tmp/a.svg").read()
"""
    assert cell.run(code, timeout=200).text == "((300, 150), True, b'%PDF-', True)"


def test_figures_are_results(cell: Cell) -> None:
    done = cell.run("import matplotlib.pyplot as plt\nplt.plot([1, 3, 2])\nplt.show()", timeout=200)
    pictures = [result.png_bytes for result in done.results if result.png]
    assert pictures and (pictures[0] or b"").startswith(b"\x89PNG")


def test_scipy(cell: Cell) -> None:
    code = """\
import numpy as np, scipy.fft, scipy.linalg, scipy.optimize
print(scipy.linalg.svdvals(np.vander(np.linspace(0, 1, 8))).round(6).tolist()[:3])
print(scipy.linalg.expm(np.zeros((2, 2))).tolist(), round(float(scipy.linalg.det(np.eye(5) * 2)), 6))
print(scipy.optimize.minimize(scipy.optimize.rosen, [-1.2, 1.0], method="BFGS").x.round(3).tolist())
print(round(scipy.optimize.brentq(np.cos, 0, 3), 9), scipy.optimize.linprog([-1, -2], [[1, 1]], [4]).fun)
print(int(abs(scipy.fft.rfft(np.sin(2 * np.pi * 5 * np.arange(4096) / 4096), workers=2)).argmax()))
"""
    done = cell.run(code, timeout=300)
    assert done.stdout.splitlines() == [
        "[3.964077, 1.805173, 0.556089]",
        "[[1.0, 0.0], [0.0, 1.0]] 32.0",
        "[1.0, 1.0]",
        "1.570796327 -8.0",
        "5",
    ], done.stderr


def test_pandas(cell: Cell) -> None:
    code = """\
import io, numpy as np, pandas as pd
n = 100_000
days = pd.date_range("2020-01-01", periods=n, freq="min")
frame = pd.DataFrame({"k": np.arange(n) * 7919 % 101, "v": np.arange(n), "d": days})
print(frame.groupby("k")["v"].agg(["sum", "count", "median"]).head(2).values.tolist())
print(frame.merge(frame.drop_duplicates("k"), on="k")["v_y"].sum())
print(frame.set_index("d")["v"].resample("D").mean().head(2).tolist(), frame.rolling(3, on="d")["v"].mean().iloc[-1])
back = pd.read_csv(io.StringIO(frame.head(1000).to_csv(index=False)), parse_dates=["d"])
print(back.equals(frame.head(1000)), pd.Series(["a1", "b22"]).str.extract(r"(\\d+)")[0].tolist())
frame.head(20).to_excel("/tmp/x.xlsx", index=False)
print(pd.read_excel("/tmp/x.xlsx")["v"].sum())
"""
    done = cell.run(code, timeout=300)
    assert done.stdout.splitlines() == [
        "[[49545045.0, 991.0, 49995.0], [49513365.0, 990.0, 50013.5]]",
        "4999545",
        "[719.5, 2159.5] 99998.0",
        "True ['1', '22']",
        "190",
    ], done.stderr
