"""A doctor says one line of each thing that it looked at."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from octorec.errors import InputError, one_line
from octorec.reading import reason

LONGEST = 300  # characters of what went wrong


@dataclass(frozen=True)
class Finding:
    """A Finding says how something is. remedy: what to do about it, where it is a problem; else empty."""

    about: str
    found: str
    remedy: str = ""

    @property
    def is_problem(self) -> bool:
        return bool(self.remedy)


Check = Callable[[], Iterable[Finding]]


def findings(checks: dict[str, Check]) -> Iterator[Finding]:
    """Yield what each check finds; one that fails is a problem of its own, and does not end the others."""
    for about, check in checks.items():
        try:
            yield from check()
        except InputError as error:
            yield Finding(about, f"{error.field}: {error.value}", one_line(str(error.allowed), LONGEST))
        except Exception as error:
            said = one_line(f"{type(error).__name__}: {reason(error)}", LONGEST)
            yield Finding(about, f"could not be looked at ({said})", "install octorec anew, or report this line")
