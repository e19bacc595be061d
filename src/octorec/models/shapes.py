"""The tensors in a folder's headers are compared with those that its config.json claims, before a module is built."""

from collections.abc import Iterable, Mapping

from octorec.errors import MismatchError

SHOWN = 4  # names that an error lists at most


def compare(
    claimed: Iterable[tuple[str, tuple[int, ...]]],
    found: Mapping[str, tuple[int, ...]],
    where: str,
    others: tuple[str, ...] = (),
) -> None:
    """Compare the names and shapes that a config claims with those `found` in a folder's headers, scales left out.

    Takes no longer than the headers are long, whatever the config says. where: how an error names the folder. others:
    what names begin with that are left to `weights.check_fits`.
    Raises MismatchError for a tensor that is missing, is of no part of the model, or has another shape.
    """
    expected: set[str] = set()
    missing: list[str] = []
    for name, shape in claimed:
        expected.add(name)
        if name not in found:
            missing.append(name)
            if len(missing) > SHOWN:
                break
        elif tuple(found[name]) != shape:
            raise MismatchError(f"{where}: {name}", tuple(found[name]), f"its config.json says {shape}")
    own = "its tensors must be those its config.json says"
    if len(missing) > SHOWN:  # what was claimed after them was not looked at
        raise MismatchError(where, f"missing {_some(missing)}; there are {_some([*found])}", own)
    unexpected = [name for name in found if name not in expected and not name.startswith(others)]
    if missing or unexpected:
        raise MismatchError(where, f"missing {_some(missing)}; unexpected {_some(unexpected)}", own)


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (" and more" if len(names) > SHOWN else "") or "nothing"
