"""Patterns tell how a semantic ID looks as text; `sid_text` reads the codes of one."""

import re

TOKEN = re.compile(r"<(?:s_)?([a-z])_([0-9]{1,9})>")
AROUND = r"(?:<\|[a-z_]+\|>)?"
SID = re.compile(rf"{AROUND}(?:<(?:s_)?[a-z]_[0-9]{{1,9}}>)+{AROUND}")
