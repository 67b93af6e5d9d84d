"""Errors that a user can act on, and how they and the progress are reported."""

import json
import sys


class Fault(Exception):
    """An error with the kind that afmq maps to an exit code: input, output, usage or diverged."""

    def __init__(self, kind: str, message: str, file: str = "", **more):
        super().__init__(f"{file}: {message}" if file else message)
        self.event = {"event": "error", "kind": kind, "file": file, "message": message} | more


class Reporter:
    """Reports to afmq, as lines of JSON on standard output, or to people on standard error."""

    def __init__(self, events: bool):
        self.events = events

    def event(self, event: dict, text: str) -> None:
        if self.events:
            print(json.dumps({"afmq_train": 1} | event), flush=True)
        elif text:
            print(text, file=sys.stderr, flush=True)

    def fault(self, error: Fault) -> None:
        self.event(error.event, f"afmq_train: {error}")


class Quiet(Reporter):
    """Reports nothing, in the processes beside the one that does."""

    def __init__(self):
        super().__init__(False)

    def event(self, event: dict, text: str) -> None:
        pass
