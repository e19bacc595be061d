"""What a server says of what clients sent: little, and nothing that a terminal would obey, in bodies and in logs."""

import json
import logging

import pytest

from octorec.errors import InputError
from octorec.serve.config import ServeConfig
from octorec.serve.logs import JsonFormatter
from octorec.serve.refusal import LONGEST, Refusal, invalid
from octorec.serve.schemas import checked

NASTY = "\x1b[2J\x9b\u202e\U000e0041\ud800\n"
SHOWN = r"\x1b[2J\x9b\u202e\U000e0041\ud800\n"


def test_a_refusal_is_bounded_and_shown() -> None:
    long = NASTY * 1000
    for refusal in (invalid(InputError(long, long, long)), Refusal("invalid", long, long)):
        assert len(refusal.message) <= LONGEST
        assert refusal.field is not None
        assert len(refusal.field) <= LONGEST
        assert refusal.field.startswith(SHOWN)
        assert refusal.message.startswith(SHOWN)


def test_a_field_that_a_client_invents_is_shown() -> None:
    for raw in ({"history": [], NASTY: 1}, {"history": [], "user": {NASTY: []}}, {"history": [], "\x9b" * 10**6: 1}):
        with pytest.raises(Refusal) as caught:
            checked(raw, ServeConfig())
        assert len(json.dumps(caught.value.body())) < 5 * LONGEST
        assert "\x9b" not in f"{caught.value.field}{caught.value.message}"


def test_a_line_of_the_log_is_json_that_a_terminal_only_shows() -> None:
    nasty = NASTY.replace("\ud800", "")  # what arrives over HTTP is UTF-8
    record = logging.makeLogRecord({"msg": nasty, "reason": nasty})
    line = JsonFormatter().format(record)
    assert json.loads(line)["message"] == json.loads(line)["reason"] == nasty
    assert not set(line) & set(nasty.replace("[2J", ""))
