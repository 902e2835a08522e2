"""One small program for each wheel: what it runs, and what it prints where no cell is involved.

Every result is exact or rounded; none depends on the number of processors, the time or the machine. ``expected`` was
taken from the same image's Python run directly on Linux.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Program:
    """Source of a script, and its standard output."""

    name: str
    source: str
    expected: str


POLARS = """\
import os
os.environ["POLARS_MAX_THREADS"] = "4"
import polars as pl
n = 200_000
df = pl.DataFrame({"k": [i * 7919 % 101 for i in range(n)], "v": range(n)})
out = df.lazy().group_by("k").agg(pl.col("v").sum(), pl.len().alias("n")).sort("k").collect()
print(pl.thread_pool_size(), out.shape, out["v"].head(3).to_list(), out["n"].sum(), out["v"].sum())
first = df.unique("k", keep="first", maintain_order=True)
joined = df.join(first, on="k", suffix="_first")
print(joined.height, joined["v_first"].sum())
df.write_parquet("/tmp/p.parquet")
print(pl.scan_parquet("/tmp/p.parquet").filter(pl.col("k") == 5).select(pl.col("v").max()).collect().item())
print(df.sort("v", descending=True)["k"].head(4).to_list())
print(len(os.listdir("/proc/self/task")) > 4)
"""

PYARROW = """\
import pyarrow as pa, pyarrow.compute as pc, pyarrow.csv as csv, pyarrow.parquet as pq
pa.set_cpu_count(4)
n = 50_000
names = pa.array([f"row {i % 1000}" for i in range(n)])
table = pa.table({"a": pa.array(range(n)), "s": names, "f": pa.array([i / 7 for i in range(n)])})
for codec in ("snappy", "zstd", "gzip", "lz4", "brotli"):
    pq.write_table(table, "/tmp/t.parquet", compression=codec, row_group_size=10_000)
    back = pq.read_table("/tmp/t.parquet", use_threads=True, memory_map=True)
    print(codec, back.equals(table))
print(pc.sum(back["a"]).as_py(), round(pc.stddev(back["f"]).as_py(), 6), len(pc.unique(back["s"])))
print(table.group_by("s").aggregate([("a", "max")]).sort_by("s").slice(0, 2).to_pylist())
csv.write_csv(table, "/tmp/t.csv")
print(csv.read_csv("/tmp/t.csv").num_rows)
sink = pa.BufferOutputStream()
with pa.ipc.new_stream(sink, table.schema) as writer:
    writer.write_table(table)
print(pa.ipc.open_stream(sink.getvalue()).read_all().equals(table), pa.default_memory_pool().backend_name)
"""

DUCKDB = """\
import duckdb
con = duckdb.connect("/tmp/x.duckdb")
con.execute("set threads = 4")
con.execute("create table t as select i, i * 7919 % 101 as k, 'n' || (i % 10) as s from range(300000) r(i)")
print(con.execute("select k, sum(i), count(*) from t group by k order by k limit 3").fetchall())
print(con.execute("select s, avg(i), median(k) from t group by s order by s limit 2").fetchall())
print(con.execute("select count(*) from t a join t b on a.i = b.i + 1 where a.k < b.k").fetchone())
last = "select i, row_number() over (partition by k order by i desc) r from t qualify r = 1 order by i limit 2"
print(con.execute(last).fetchall())
con.execute("copy t to '/tmp/t.parquet' (format parquet)")
con.close()
print(duckdb.sql("select sum(i), max(s) from '/tmp/t.parquet'").fetchall())
print(duckdb.connect("/tmp/x.duckdb", read_only=True).execute("select count(*) from t").fetchone())
"""

SKLEARN = """\
from sklearn.cluster import KMeans
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
x, y = make_classification(2000, 20, random_state=0)
for jobs in (1, 4):
    forest = RandomForestClassifier(30, n_jobs=jobs, random_state=0).fit(x[:1500], y[:1500])
    print(jobs, forest.score(x[1500:], y[1500:]), forest.feature_importances_.argmax())
print(LogisticRegression().fit(x, y).score(x, y))
with threadpool_limits(4):  # OpenMP threads
    print(round(KMeans(3, n_init=2, random_state=0).fit(x).inertia_, 2))
"""

SCIPY = """\
import numpy as np, scipy.fft as F, scipy.integrate as I, scipy.linalg as L, scipy.optimize as O, scipy.sparse as S
import scipy.sparse.linalg as SL
print(L.svdvals(np.vander(np.linspace(0, 1, 8))).round(6).tolist()[:3], round(float(L.det(np.eye(5) * 2)), 6))
print(O.minimize(O.rosen, [-1.2, 1.0], jac=O.rosen_der, method="BFGS").x.round(4).tolist(), round(O.brentq(np.cos, 0, 3), 9))
print(int(np.abs(F.rfft(np.sin(2 * np.pi * 5 * np.arange(4096) / 4096), workers=4)).argmax()))
m = S.diags([-1.0, 2.0, -1.0], [-1, 0, 1], shape=(2000, 2000), format="csc")
print(round(float(SL.spsolve(m, np.ones(2000)).max()), 3))
print(round(I.quad(lambda x: np.exp(-x * x), -np.inf, np.inf)[0], 9))
r = np.random.default_rng(0).random((500, 500))
print(np.allclose(r @ L.inv(r), np.eye(500), atol=1e-6))
"""

UVLOOP = """\
import asyncio, uvloop

async def serve(reader, writer):
    while data := await reader.readline():
        writer.write(data.upper())
        await writer.drain()
    writer.close()

async def client(port, n):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    got = []
    for i in range(20):
        writer.write(b"line %d of %d\\n" % (i, n))
        got.append(await reader.readline())
    writer.close()
    await writer.wait_closed()
    return got

async def main():
    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    got = await asyncio.gather(*(client(port, n) for n in range(10)))
    print(type(loop).__module__, sum(map(len, got)), got[3][7])
    print(await loop.run_in_executor(None, sum, range(1000)))
    server.close()
    await server.wait_closed()
    done, total = asyncio.Event(), 0
    async def sink(reader, writer):
        nonlocal total
        while data := await reader.read(65536):
            total += len(data)
        writer.close()
        loop.call_later(0.01, done.set)
    await asyncio.start_unix_server(sink, "/tmp/sock")
    _, writer = await asyncio.open_unix_connection("/tmp/sock")
    for _ in range(40):
        writer.write(b"x" * 100_000)
        await writer.drain()
    writer.close()
    await done.wait()
    print(total)

uvloop.run(main())
"""

NUMBA = """\
import numba, numpy as np

@numba.njit
def collatz(n):
    best = 0
    for i in range(1, n):
        x, steps = i, 0
        while x != 1:
            x = x // 2 if x % 2 == 0 else 3 * x + 1
            steps += 1
        best = max(best, steps)
    return best

@numba.vectorize(["float64(float64, float64)"])
def hypotenuse(a, b):
    return (a * a + b * b) ** 0.5

@numba.njit(parallel=True)
def total(a):
    s = 0.0
    for i in numba.prange(a.size):
        s += a[i] * 2
    return s

@numba.cfunc("int64(int64)")
def triple(x):
    return x * 3

print(collatz(50_000))
print(hypotenuse(np.arange(5.0), 4.0).round(6).tolist())
print(total(np.ones(100_000)))
print(triple.ctypes(14))
try:
    numba.njit(lambda a, i: a[i] // 0)(np.arange(3), 1)
except ZeroDivisionError as e:
    print(e)
"""

OPENCV = """\
import cv2, numpy as np
cv2.setNumThreads(4)
ramp = (np.add.outer(np.arange(600), np.arange(800)) % 256).astype(np.uint8)
img = np.dstack([ramp, ramp[::-1], ramp[:, ::-1]])
small = cv2.resize(img, (200, 150), interpolation=cv2.INTER_NEAREST)
print(small.shape, int(small.sum()))
print(int(cv2.medianBlur(img, 5).astype(np.int64).sum()))
ok, png = cv2.imencode(".png", small)
print(ok, np.array_equal(cv2.imdecode(png, 1), small))
ok, jpg = cv2.imencode(".jpg", small)
print(ok, cv2.imdecode(jpg, 1).shape)
print(int(cv2.threshold(ramp, 127, 255, cv2.THRESH_BINARY)[1].sum()))
print(cv2.connectedComponents((ramp > 127).astype(np.uint8))[0])
"""

PILLOW = """\
import io
from PIL import Image, ImageDraw, ImageFilter
img = Image.new("RGB", (320, 200), "navy")
draw = ImageDraw.Draw(img)
draw.ellipse((50, 20, 250, 180), fill="gold")
draw.text((10, 10), "prong", fill="white")
for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"):
    file = io.BytesIO()
    img.save(file, kind)
    back = Image.open(io.BytesIO(file.getvalue())).convert("RGB")
    print(kind, back.size, back.getpixel((150, 100))[0] > 200)
print(img.filter(ImageFilter.BoxBlur(3)).resize((32, 20)).getpixel((16, 10)), img.rotate(90, expand=True).size)
"""

LXML = """\
from lxml import etree, html
root = etree.fromstring("<r>" + "".join(f"<i n='{i}'>{i * i}</i>" for i in range(5000)) + "</r>")
print(len(root), root.xpath("sum(i[@n mod 7 = 0])"))
space = "http://www.w3.org/1999/XSL/Transform"
sheet = f"<x:stylesheet version='1.0' xmlns:x='{space}'><x:output method='text'/>"
sheet += "<x:template match='/'><x:value-of select='count(//i)'/></x:template></x:stylesheet>"
print(etree.XSLT(etree.XML(sheet))(root))
print(html.fromstring("<p>a<b>c</p><p>d").xpath("//p/text()"))
etree.ElementTree(root).write("/tmp/o.xml")
print(sum(1 for _ in etree.iterparse("/tmp/o.xml", tag="i")))
try:
    etree.fromstring("<a><b></a>")
except etree.XMLSyntaxError as e:
    print("line", e.lineno)
"""

CRYPTOGRAPHY = """\
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
digest = hashes.Hash(hashes.SHA256())
digest.update(b"abc")
print(digest.finalize().hex())
print(AESGCM(bytes(32)).encrypt(bytes(12), b"hello", b"ad").hex())
print(ChaCha20Poly1305(bytes(32)).encrypt(bytes(12), b"hello", None).hex())
print(ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)).sign(b"m").hex())
key = rsa.generate_private_key(65537, 2048)
key.public_key().verify(key.sign(b"m", padding.PKCS1v15(), hashes.SHA256()), b"m", padding.PKCS1v15(), hashes.SHA256())
fernet = Fernet(Fernet.generate_key())
print(fernet.decrypt(fernet.encrypt(b"secret")))
a, b = x25519.X25519PrivateKey.generate(), x25519.X25519PrivateKey.generate()
print(a.exchange(b.public_key()) == b.exchange(a.public_key()))
try:
    fernet.decrypt(b"x")
except InvalidToken:
    print("invalid")
"""

ORJSON_PYDANTIC = """\
import datetime, orjson, numpy as np
from pydantic import BaseModel, Field, ValidationError
data = [{"i": i, "f": i / 3, "s": "é" * (i % 5), "d": datetime.date(2020, 1, 1 + i % 28)} for i in range(5000)]
out = orjson.dumps(data)
print(len(out), orjson.loads(out)[4999])
print(orjson.dumps(np.arange(6).reshape(2, 3), option=orjson.OPT_SERIALIZE_NUMPY))
class Person(BaseModel):
    name: str = Field(min_length=2)
    age: int
print(Person.model_validate_json(b'{"name": "Ada", "age": "36"}'))
try:
    Person.model_validate({"name": "A", "age": "x"})
except ValidationError as e:
    print([x["type"] for x in e.errors()])
"""

SHAPELY = """\
import numpy as np, shapely
from shapely import Point, Polygon, STRtree
circle, square = Point(0, 0).buffer(2), Polygon([(0, 0), (3, 0), (3, 3), (0, 3)])
print(round(circle.intersection(square).area, 6), round(circle.union(square).area, 6))
print(shapely.is_valid(Polygon([(0, 0), (1, 1), (1, 0), (0, 1)])), shapely.from_wkt("POINT (1 2)").x)
points = shapely.points(*np.mgrid[0:100, 0:100].reshape(2, -1))
print(len(STRtree(points).query(Polygon([(10, 10), (20, 10), (20, 20)]), predicate="contains")))
"""

PROGRAMS = (
    Program(
        "cryptography",
        CRYPTOGRAPHY,
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n"
        "a6c22c5122dcae01769cf5708a760364c4f1240b42\n"
        "f7628bd23adce962340b6fd6a0a4d1fe736f29456f\n"
        "a7d2b316acb308e44ba5be4fa0cf2b7ab249c6d1748430d5350cffc1d34b8324794eedf65b07ca805d5d9bdb8adf9304ff07b4303111f17a8278743773af1c0f\n"
        "b'secret'\n"
        "True\n"
        "invalid\n",
    ),
    Program(
        "duckdb",
        DUCKDB,
        "[(0, 445605435, 2971), (1, 445510395, 2970), (2, 445415355, 2970)]\n"
        "[('n0', 149995.0, 50.0), ('n1', 149996.0, 50.0)]\n"
        "(121781,)\n"
        "[(299899, 1), (299900, 1)]\n"
        "[(44999850000, 'n9')]\n"
        "(300000,)\n",
    ),
    Program(
        "lxml",
        LXML,
        "5000 5957736785.0\n5000\n['a', 'd']\n5000\nline 1\n",
    ),
    Program(
        "numba",
        NUMBA,
        "323\n[4.0, 4.123106, 4.472136, 5.0, 5.656854]\n200000.0\n42\ninteger division by zero\n",
    ),
    Program(
        "opencv",
        OPENCV,
        "(150, 200, 3) 11483040\n183021312\nTrue True\nTrue (150, 200, 3)\n60840960\n6\n",
    ),
    Program(
        "orjson-pydantic",
        ORJSON_PYDANTIC,
        "286205 {'i': 4999, 'f': 1666.3333333333333, 's': 'éééé', 'd': '2020-01-16'}\n"
        "b'[[0,1,2],[3,4,5]]'\n"
        "name='Ada' age=36\n"
        "['string_too_short', 'int_parsing']\n",
    ),
    Program(
        "pillow",
        PILLOW,
        "PNG (320, 200) True\n"
        "JPEG (320, 200) True\n"
        "WEBP (320, 200) True\n"
        "GIF (320, 200) True\n"
        "TIFF (320, 200) True\n"
        "BMP (320, 200) True\n"
        "(255, 215, 0) (200, 320)\n",
    ),
    Program(
        "polars",
        POLARS,
        "4 (101, 3) [198080190, 198016830, 197953470] 200000 19999900000\n200000 9999190\n199921\n[72, 31, 91, 50]\nTrue\n",
    ),
    Program(
        "pyarrow",
        PYARROW,
        "snappy True\n"
        "zstd True\n"
        "gzip True\n"
        "lz4 True\n"
        "brotli True\n"
        "1249975000 2061.965247 1000\n"
        "[{'s': 'row 0', 'a_max': 49000}, {'s': 'row 1', 'a_max': 49001}]\n"
        "50000\n"
        "True mimalloc\n",
    ),
    Program(
        "scipy",
        SCIPY,
        "[3.964077, 1.805173, 0.556089] 32.0\n[1.0, 1.0] 1.570796327\n5\n500500.0\n1.772453851\nTrue\n",
    ),
    Program(
        "shapely",
        SHAPELY,
        "3.136548 18.409645\nFalse 1.0\n36\n",
    ),
    Program(
        "sklearn",
        SKLEARN,
        "1 0.99 5\n4 0.99 5\n0.9885\n34505.88\n",
    ),
    Program(
        "uvloop",
        UVLOOP,
        "uvloop 200 b'LINE 7 OF 3\\n'\n499500\n4000000\n",
    ),
)
