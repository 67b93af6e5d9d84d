"""Compiles and runs Core AI programs for afmq, which starts this program and writes requests,
one JSON object a line, to its standard input.

    {"do": "build", "job": FILE, "constants": FILE, "asset": DIR, "precision": "float16"}
    {"do": "open", "job": FILE, "asset": DIR, "precision": "float32"}
    {"do": "reset"}                     empties the caches
    {"do": "run", "function": NAME, "ids": [...], "position": N}
    {"do": "close"}

Each is answered by one line: {"ok": true, ...} or {"error": "..."}. The answer to run is
followed by its logits, float32 [tokens, vocab] in little-endian order. The first line, without
a request, names the versions of the packages.

Called as "bridge.py DIR", it builds the asset that DIR/job.json describes and exits.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from importlib import metadata
from pathlib import Path

PACKAGES = ("coreai-core", "numpy")
NO_RANDOMIZE = 0x0040000  # ADDR_NO_RANDOMIZE of personality(2)


def fixed_addresses() -> None:
    """Starts the program again with addresses that are not random.

    The compiler names constants by hashes that depend on addresses: with fixed ones, equal
    jobs give equal bytes. Linux only; without permission the program goes on as it is.
    """
    if not sys.platform.startswith("linux") or os.environ.get("AFMQ_FIXED_ADDRESSES"):
        return
    libc = ctypes.CDLL(None)
    now = libc.personality(0xFFFFFFFF)  # asks without a change
    if now != -1 and libc.personality(now | NO_RANDOMIZE) != -1:
        os.environ["AFMQ_FIXED_ADDRESSES"] = "1"
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
    return {"functions": names, "reproducible": bool(os.environ.get("AFMQ_FIXED_ADDRESSES"))}


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
                text = " ".join(str(e).split())
                self.answer({"error": f"{type(e).__name__}: {text[-300:]}"})

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
        self.session.reset()
        return {}

    def do_reset(self, request: dict) -> dict:
        self.session.reset()
        return {}

    def do_run(self, request: dict) -> tuple[dict, bytes]:
        import numpy as np

        extra = self.extra.get(request.get("adapter", ""), {})
        ids = np.array(request["ids"], np.int64)
        y = self.session.run(request["function"], ids, request["position"], extra)
        data = np.ascontiguousarray(y, "<f4").tobytes()
        return {"bytes": len(data), "shape": list(y.shape)}, data

    def do_close(self, request: dict) -> dict:
        self.session.close()
        self.session = None
        return {}


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


def main() -> None:
    fixed_addresses()
    sys.path.insert(0, str(Path(__file__).parent))
    if len(sys.argv) < 2:
        Server().serve()
        return
    folder = Path(sys.argv[1])
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


if __name__ == "__main__":
    main()
