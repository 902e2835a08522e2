"""Other languages' runtimes in cells: Node.js (a JIT, its thread pool, workers), Perl, Ruby, Lua, static BusyBox, SQLite."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from prong.cell.engine import Engine
from prong.cell.engine.booting import Program
from prong.cell.engine.runs import RunCollector, RunOptions
from prong.cell.limits import MIB, Limits
from prong.image.spec import load_spec

pytestmark = [pytest.mark.kvm, pytest.mark.timeout(900)]

Run = Callable[..., str]


@pytest.fixture(scope="module")
def images(engine: Engine) -> Iterator[Callable[[str], str]]:
    """The digest of a built-in image, built if need be."""
    known: dict[str, str] = {}

    def find(name: str) -> str:
        if name not in known:
            known[name] = engine.images.build(load_spec(name)).digest
        return known[name]

    yield find


@pytest.fixture(scope="module")
def run(engine: Engine, images: Callable[[str], str]) -> Run:
    """Run a program of an image to its end; it must exit with 0 and write nothing to standard error."""

    def run(image: str, *argv: str, memory: int = 512 * MIB) -> str:
        out: list[str] = []
        err: list[str] = []
        cell = engine.program(images(image), Program(argv), Limits(memory=memory))
        with cell:
            cell.attach_output(RunCollector(1, "", RunOptions(on_stdout=out.append, on_stderr=err.append)))
            cell.start()
            end = cell.wait_end(200)
        assert end is not None, f"still running; said {''.join(out + err)}"
        assert (end.code, "".join(err)) == (0, ""), end.describe()
        return "".join(out)

    return run


def node(run: Run, source: str) -> list[str]:
    return run("node", "/usr/bin/node", "-e", source, memory=1024 * MIB).splitlines()


def test_node_event_loop(run: Run) -> None:
    source = """
        setTimeout(() => console.log("late"), 60);
        setTimeout(() => console.log("soon"), 20);
        Promise.resolve().then(() => console.log("micro"));
        process.nextTick(() => console.log("tick"));
        const fs = require("fs/promises");
        (async () => {
            await fs.mkdir("/tmp/d/e", {recursive: true});
            await fs.writeFile("/tmp/d/a.txt", "hello");
            await fs.appendFile("/tmp/d/a.txt", " world");
            const text = await fs.readFile("/tmp/d/a.txt", "utf8");
            const size = (await fs.stat("/tmp/d/a.txt")).size;
            setTimeout(() => console.log(text, size), 100);
        })();
        process.on("exit", () => console.log("bye"));
    """
    assert node(run, source) == ["tick", "micro", "soon", "late", "hello world 11", "bye"]


def test_node_workers_and_shared_memory(run: Run) -> None:
    source = """
        const {Worker} = require("worker_threads");
        const shared = new SharedArrayBuffer(8), counts = new Int32Array(shared);
        const body = `const a = new Int32Array(require("worker_threads").workerData);
            for (let i = 0; i < 20000; i++) Atomics.add(a, 0, 1);
            Atomics.add(a, 1, 1); Atomics.notify(a, 1);`;
        const workers = [1, 2, 3].map(() => new Worker(body, {eval: true, workerData: shared}));
        for (let seen; (seen = Atomics.load(counts, 1)) < 3;) Atomics.wait(counts, 1, seen);
        Promise.all(workers.map(w => new Promise(done => w.on("exit", done)))).then(codes => console.log(counts[0], codes));
    """
    assert node(run, source) == ["60000 [ 0, 0, 0 ]"]


def test_node_network(run: Run) -> None:
    source = """
        const http = require("http"), net = require("net"), dgram = require("dgram");
        const server = http.createServer((q, r) => {
            let body = "";
            q.on("data", d => body += d);
            q.on("end", () => r.end(JSON.stringify({method: q.method, url: q.url, body})));
        });
        server.listen(0, "127.0.0.1", async () => {
            const url = `http://127.0.0.1:${server.address().port}/x?y=1`;
            console.log(await (await fetch(url, {method: "POST", body: "data"})).text());
            server.closeAllConnections?.();
            server.close();
        });
        const unix = net.createServer(s => s.end("unix")).listen("/tmp/u.sock", () => {
            net.connect("/tmp/u.sock").on("data", d => { console.log(d.toString()); unix.close(); });
        });
        const udp = dgram.createSocket("udp4").on("message", m => { console.log(m.toString()); udp.close(); });
        udp.bind(0, "127.0.0.1", () => {
            const sender = dgram.createSocket("udp4");
            sender.send("udp", udp.address().port, "127.0.0.1", () => sender.close());
        });
    """
    assert sorted(node(run, source)) == ["udp", "unix", '{"method":"POST","url":"/x?y=1","body":"data"}']


def test_node_crypto_zlib_wasm(run: Run) -> None:
    source = """
        const crypto = require("crypto"), zlib = require("zlib");
        console.log(crypto.createHash("sha256").update("abc").digest("hex"));
        crypto.scrypt("p", "s", 16, (e, key) => console.log(key.toString("hex")));
        const {privateKey, publicKey} = crypto.generateKeyPairSync("ec", {namedCurve: "P-256"});
        const signed = crypto.createSign("SHA256").update("m").sign(privateKey);
        console.log(crypto.createVerify("SHA256").update("m").verify(publicKey, signed));
        console.log(zlib.brotliDecompressSync(zlib.brotliCompressSync("zip".repeat(1000))).length);
        const code = Uint8Array.from([0,97,115,109,1,0,0,0,1,7,1,96,2,127,127,1,127,3,2,1,0,7,7,1,3,97,100,100,0,0,10,9,1,7,
            0,32,0,32,1,106,11]);
        const add = new WebAssembly.Instance(new WebAssembly.Module(code)).exports.add;
        let sum = 0;
        for (let i = 0; i < 100000; i++) sum = add(sum, i) | 0;
        console.log(sum);
        const memory = new WebAssembly.Memory({initial: 1, maximum: 1000});
        memory.grow(9);
        console.log(memory.buffer.byteLength);
    """
    got = node(run, source)
    assert "4329787752e75d1de359a05806e492d4" in got, "scrypt, on the thread pool"
    got.remove("4329787752e75d1de359a05806e492d4")
    sha = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert got == [sha, "true", "3000", "704982704", "655360"]


def test_node_is_forked_live(engine: Engine, images: Callable[[str], str]) -> None:
    """A JIT, its thread pool, a worker and timers go on in every fork, from the same point, apart from each other."""
    source = """
        const {Worker} = require("worker_threads");
        const body = 'require("worker_threads").parentPort.on("message", function (m) { this.postMessage(m * 2); })';
        const worker = new Worker(body, {eval: true});
        let n = 0;
        const timer = setInterval(() => worker.postMessage(n++), 100);
        worker.on("message", m => {
            console.log(m);
            if (m === 20) { clearInterval(timer); worker.terminate(); }
        });
    """
    limits = Limits(memory=1024 * MIB)
    said: list[list[str]] = [[], [], []]
    with contextlib.ExitStack() as stack:
        cells = [stack.enter_context(engine.program(images("node"), Program(("/usr/bin/node", "-e", source)), limits))]
        cells[0].attach_output(RunCollector(1, "", RunOptions(on_stdout=said[0].append)))
        cells[0].start()
        while "4" not in "".join(said[0]).split():
            assert cells[0].wait_end(0.05) is None
        cells += [stack.enter_context(fork) for fork in cells[0].fork(2)]
        for i in (1, 2):
            cells[i].attach_output(RunCollector(1, "", RunOptions(on_stdout=said[i].append)))
        ends = [cell.wait_end(100) for cell in cells]
    assert [end and end.code for end in ends] == [0, 0, 0], ends
    whole = [str(i) for i in range(0, 21, 2)]
    numbers = ["".join(parts).split() for parts in said]
    assert numbers[0] == whole
    for after in numbers[1:]:
        assert after and after == whole[-len(after) :], "it went on where its parent was"


def test_perl(run: Run) -> None:
    source = r"""
        use strict; use List::Util qw(sum); use Digest::SHA qw(sha256_hex); use Time::HiRes qw(sleep);
        my %h; $h{$_ % 7} += $_ for 1..10000;
        print join(",", map {"$_=$h{$_}"} sort keys %h), "\n", sha256_hex("abc"), "\n";
        open(my $f, ">", "/tmp/x") or die; print $f "line $_\n" for 1..1000; close $f;
        open($f, "<", "/tmp/x") or die; my $n = 0; $n++ while <$f>; print "$n\n";
        local $SIG{ALRM} = sub { die "alarm\n" };
        eval { Time::HiRes::alarm(0.05); sleep 30; }; print $@;
        print defined fork ? "forked" : "no fork", "\n";
    """
    assert run("programs", "/usr/bin/perl", "-e", source).splitlines() == [
        "0=7142142,1=7143571,2=7145000,3=7146429,4=7147858,5=7139286,6=7140714",
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "1000",
        "alarm",
        "no fork",
    ]


def test_ruby(run: Run) -> None:
    source = """
        require "digest"; require "json"; require "socket"
        puts (1..1000).each_with_object(Hash.new(0)) { |i, h| h[i % 3] += i }.sort.inspect
        queue = Queue.new
        4.times.map { |i| Thread.new { sleep 0.01 * i; queue << i } }.each(&:join)
        puts queue.size
        server = TCPServer.new("127.0.0.1", 0)
        thread = Thread.new { c = server.accept; c.puts c.gets.upcase; c.close }
        client = TCPSocket.new("127.0.0.1", server.addr[1]); client.puts "hi"; puts client.gets; thread.join
        fiber = Fiber.new { Fiber.yield 1; 2 }
        p [fiber.resume, fiber.resume], JSON.generate({a: [1, 2.5, nil]}), Digest::MD5.hexdigest("abc"), 2**80
        many = Array.new(200_000) { |i| i.to_s }; many = nil; GC.start; GC.compact
        begin; fork; rescue => e; puts e.class; end
    """
    assert run("programs", "/usr/bin/ruby", "-e", source).splitlines() == [
        "[[0, 166833], [1, 167167], [2, 166500]]",
        "4",
        "HI",
        "[1, 2]",
        '"{\\"a\\":[1,2.5,null]}"',
        '"900150983cd24fb0d6963f7d28e17f72"',
        "1208925819614629174706176",
        "Errno::EPERM",
    ]


def test_lua(run: Run) -> None:
    source = """
        local t = {} for i = 1, 1000 do t[i] = (i * 7919) % 1009 end
        table.sort(t) print(#t, t[1], t[1000])
        local c = coroutine.wrap(function() for i = 1, 3 do coroutine.yield(i * i) end end) print(c(), c(), c())
        local f = assert(io.open("/tmp/l", "w")) f:write("hi\\n") f:close()
        for l in io.lines("/tmp/l") do print(l, string.format("%.6f", math.sin(1))) end
        print(pcall(error, "boom"))
    """
    expected = ["1000\t1\t1008", "1\t4\t9", "hi\t0.841471", "false\tboom"]
    assert run("programs", "/usr/bin/lua5.4", "-e", source).splitlines() == expected


def test_static_busybox(run: Run) -> None:
    """No loader, no dynamic libraries."""
    script = 'i=0; while [ $i -lt 1000 ]; do i=$((i+1)); done; echo hi > /tmp/q; read x < /tmp/q; printf "%05d %s\\n" $i $x'
    assert run("programs", "/bin/busybox", "sh", "-c", script) == "01000 hi\n"
    assert run("programs", "/bin/busybox", "awk", "BEGIN { for (i = 1; i <= 100; i++) s += i * i; print s }") == "338350\n"


def test_small_tools(run: Run) -> None:
    sql = (
        "pragma journal_mode = wal; create table t(a integer primary key, b text);"
        "with recursive c(x) as (select 1 union all select x + 1 from c where x < 5000)"
        " insert into t select x, hex(x * x) from c;"
        "create index i on t(b); select count(*), sum(a), max(b) from t; vacuum; pragma integrity_check;"
    )
    assert run("programs", "/usr/bin/sqlite3", "/tmp/t.db", sql) == "wal\n5000|12502500|39393938323434\nok\n"
    jq = '[range(10)] | map(select(. % 2 == 0)) | {sum: add, text: (map(tostring) | join("-"))}'
    assert run("programs", "/usr/bin/jq", "-nc", jq) == '{"sum":20,"text":"0-2-4-6-8"}\n'
    bash = (
        "declare -A m; for i in {1..200}; do m[$((i % 3))]=$((${m[$((i % 3))]:-0} + i)); done; echo ${m[0]} ${m[1]} ${m[2]}"
    )
    assert run("programs", "/usr/bin/bash", "-c", bash) == "6633 6700 6767\n"
    gawk = 'BEGIN { for (i = 1; i <= 1000; i++) a[i % 13] += i; print a[0], a[12], gensub(/b+/, "-", "g", "abbbc") }'
    assert run("programs", "/usr/bin/gawk", gawk) == "38038 38962 a-c\n"
