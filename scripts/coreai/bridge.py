"""Compiles and runs Core AI programs for afmq, which starts this program and writes requests,
one JSON object a line, to its standard input.

    {"do": "build", "job": FILE, "constants": FILE, "asset": DIR, "precision": "float16"}
    {"do": "open", "job": FILE, "asset": DIR, "precision": "float32"}
    {"do": "reset"}                     empties the caches
    {"do": "run", "function": NAME, "ids": [...], "position": N}; Static in runtime.py has more
    {"do": "close"}

Each is answered by one line: {"ok": true, ...} or {"error": "..."}. The answer to run is
followed by its logits, float32 [tokens, vocab] in little-endian order. The first line, without
a request, names the versions of the packages.

Called as "bridge.py DIR", it builds the asset that DIR/job.json describes, beside DIR, and exits.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import signal
import sys
from importlib import metadata
from pathlib import Path

PACKAGES = ("coreai-core", "numpy")
OLDEST = (3, 11)  # Python that the packages exist for
NO_RANDOMIZE = 0x0040000  # ADDR_NO_RANDOMIZE of personality(2)
STARTED_AGAIN = "AFMQ_FIXED_ADDRESSES"  # set in the environment of the second start

# What a disk answers that cannot be written.
DISK_ERRORS = (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG, errno.EIO)


def personality(flags: int = 0xFFFFFFFF) -> int:
    """personality(2): sets flags, unless they are all set, and returns those before; -1 on error."""
    if not sys.platform.startswith("linux"):
        return -1
    return ctypes.CDLL(None).personality(flags)


def has_fixed_addresses() -> bool:
    now = personality()
    return now != -1 and bool(now & NO_RANDOMIZE)


def start_with_fixed_addresses() -> None:
    """Starts the program again with addresses that are not random, if they are.

    The compiler names constants by hashes that depend on addresses: with fixed ones, equal
    jobs give equal bytes. Linux only; without permission the program goes on as it is.
    """
    now = personality()
    if now == -1 or now & NO_RANDOMIZE or STARTED_AGAIN in os.environ:
        return
    if personality(now | NO_RANDOMIZE) != -1:
        os.environ[STARTED_AGAIN] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def build(request: dict) -> dict:
    """Writes an asset."""
    import dynamic
    import static
    from builder import AIProgram, Constants, Module

    job = json.loads(Path(request["job"]).read_text())
    constants = Constants(job, request["constants"])
    dtype = arithmetic(request)
    module = Module.create()
    shape = static if job["shape"] == "static" else dynamic
    with module:
        names = shape.build(job, constants, dtype)
    program = AIProgram(module)
    if shape is static and not request.get("free"):
        static.constrain(job, program, names)
    program.save_asset(Path(request["asset"]))
    return {"functions": names, "reproducible": has_fixed_addresses()}


def stamp(request: dict) -> dict:
    """Replaces the date of an asset by a fixed one and adds the job's metadata."""
    from coreai.authoring import AIModelAsset

    job = json.loads(Path(request["job"]).read_text())

    def update(m) -> None:
        m.creation_date = 0
        m.model_description = job["description"]
        for key, value in job["metadata"].items():
            m.set_custom(key, value)

    AIModelAsset.load(request["asset"]).update_metadata(update)
    return {}


def arithmetic(request: dict) -> type:
    import numpy as np

    return {"float16": np.float16, "float32": np.float32}[request["precision"]]


class Server:
    """Answers the requests of one process."""

    def __init__(self) -> None:
        # An interrupt from the terminal goes to afmq too, which then ends this program.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # Libraries print to standard output; the answers have a descriptor of their own.
        self.out = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)
        self.session = None

    def serve(self) -> None:
        self.answer({"versions": versions()})
        for line in sys.stdin:
            request = json.loads(line)
            payload = None
            try:
                answer = getattr(self, "do_" + request["do"])(request)
                if isinstance(answer, tuple):
                    answer, payload = answer
                self.answer({"ok": True, **answer}, payload)
            except Exception as e:  # whatever a library raises goes to the caller
                self.answer(failure(e))

    def answer(self, value: dict, payload: bytes | None = None) -> None:
        self.out.write(json.dumps(value).encode() + b"\n" + (payload or b""))
        self.out.flush()

    def do_build(self, request: dict) -> dict:
        return build(request)

    def do_stamp(self, request: dict) -> dict:
        return stamp(request)

    def do_open(self, request: dict) -> dict:
        import runtime

        job = json.loads(Path(request["job"]).read_text())
        kind = runtime.Static if job["shape"] == "static" else runtime.Dynamic
        self.session = kind(job, request["asset"], arithmetic(request))
        self.extra: dict = {}
        if request.get("constants"):
            self.extra = stacked(job, request["constants"])
        return {}

    def do_reset(self, request: dict) -> dict:
        self.session.reset(request)
        return {}

    def do_run(self, request: dict) -> tuple[dict, bytes]:
        import numpy as np

        extra = self.extra.get(request.get("adapter", ""), {})
        ids = np.array(request["ids"], np.int64)
        y = self.session.run(request, ids, extra)
        data = np.ascontiguousarray(y, "<f4").tobytes()
        return {"bytes": len(data), "shape": list(y.shape)}, data

    def do_close(self, request: dict) -> dict:
        self.session.close()
        self.session = None
        return {}


def failure(e: BaseException) -> dict:
    """The answer that reports an exception, by what caused it; errno says that a disk failed."""
    while e.__cause__ is not None:
        e = e.__cause__
    text = " ".join(str(e).split())
    answer: dict = {"error": f"{type(e).__name__}: {text[-300:]}"}
    if isinstance(e, OSError) and e.errno in DISK_ERRORS:
        answer["errno"] = e.errno
    return answer


def stacked(job: dict, path: str) -> dict:
    """The adapters of a job as inputs: by adapter, the arrays by name."""
    import numpy as np

    data = np.memmap(path, np.uint8, "r")
    out: dict = {}
    for name, e in job["constants"].items():
        if name.startswith("input:"):
            _, adapter, key = name.split(":", 2)
            array = data[e["offset"] : e["offset"] + e["bytes"]].view(np.dtype(e["type"])).reshape(e["shape"])
            out.setdefault(adapter, {})[key] = array
    return out


def versions() -> dict:
    """Versions of the packages that matter; "" where one is missing."""
    found = {"python": sys.version.split()[0]}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = ""
    return found


def check_packages(requirements: Path) -> None:
    """Exits unless this Python has the packages; the message says how to get them."""
    found = versions()
    want = re.search(r"^coreai-core==(\S+)", requirements.read_text(), re.MULTILINE)[1]
    if found["coreai-core"] != want or not found["numpy"]:
        has = f"has coreai-core {found['coreai-core']}" if found["coreai-core"] else "lacks the packages"
        sys.exit(
            f"{sys.executable} {has}; this program needs coreai-core {want} and numpy. To install them:\n"
            f'"{sys.executable}" -m pip install -r "{requirements}"'
        )


def build_beside(folder: Path) -> None:
    """Builds the asset of a folder with job.json and constants.bin, beside the folder."""
    check_packages(folder / "requirements.txt")
    job = json.loads((folder / "job.json").read_text())
    request = {
        "job": folder / "job.json",
        "constants": folder / "constants.bin",
        "asset": folder.parent / job["asset"],
        "precision": "float16",
    }
    names = build(request)["functions"]
    stamp(request)
    print(f"wrote {request['asset']}: {len(names)} functions")


def main() -> None:
    if sys.version_info < OLDEST:
        sys.exit("Python {}.{} is too old: coreai-core needs {}.{}".format(*sys.version_info[:2], *OLDEST))
    # The compiler is written in Swift, whose dictionaries have a random order by default.
    os.environ["SWIFT_DETERMINISTIC_HASHING"] = "1"
    start_with_fixed_addresses()
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(Path(__file__).parent))
    if len(sys.argv) < 2:
        Server().serve()
    else:
        build_beside(Path(sys.argv[1]).resolve())


if __name__ == "__main__":
    main()
