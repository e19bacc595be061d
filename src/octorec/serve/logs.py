"""Logs as JSON, a line an event, on stderr."""

import json
import logging
import sys
import time
from typing import Any

import orjson

from octorec.errors import CONTROL

LOG_RECORD_FIELDS = {*vars(logging.makeLogRecord({})), "message", "taskName", "color_message"}  # all others are `extra`


class JsonFormatter(logging.Formatter):
    """A JsonFormatter writes time (UTC), level, message, all that came as `extra`, and the traceback of an error."""

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        line: dict[str, Any] = {"time": at, "level": record.levelname.lower(), "message": record.getMessage()}
        line |= {name: value for name, value in vars(record).items() if name not in LOG_RECORD_FIELDS}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        text = orjson.dumps(line, default=str).decode()
        return CONTROL.sub(lambda found: json.dumps(found[0])[1:-1], text)  # what JSON allows and a terminal obeys


def log_as_json() -> None:
    """Send every logger's lines of this process to stderr as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # it says on each start what `run` says better
