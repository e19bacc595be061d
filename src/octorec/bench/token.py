"""A load tool may have a bearer token, which is the first line of a file."""

from octorec.errors import InputError
from octorec.reading import read_text


def authorization(token_file: str | None) -> dict[str, str]:
    if token_file is None:
        return {}
    tokens = read_text(token_file, "token_file").split()
    if not tokens or not tokens[0].isascii() or not tokens[0].isprintable():
        raise InputError("token_file", token_file, "must hold a token of printable ASCII characters")
    return {"Authorization": f"Bearer {tokens[0]}"}
