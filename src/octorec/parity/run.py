"""Ask both programs the same prompts, and compare what they answer."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from octorec.errors import InputError
from octorec.parity.compare import ComparedBeams, Parity, RequestBeams, compare_beams, compare_scores, summed
from octorec.parity.free_search import NextLogits, free_search
from octorec.parity.limits import BEAM_WIDTH, LENGTH_PENALTIES, TOLERANCE, check_beam_width, check_tolerance
from octorec.parity.ours import Ours
from octorec.parity.theirs import constrained_beams, free_beams, teacher_forced
from octorec.parity.token_trie import TokenTrie
from octorec.progress import Progress, silent


def compare(
    ours: Ours,
    theirs: Any,
    prompts: Sequence[np.ndarray],
    targets: np.ndarray,
    beam_width: int = BEAM_WIDTH,
    tolerance: float = TOLERANCE,
    next_logits: NextLogits | None = None,
    vocabulary: int | None = None,
    progress: Progress = silent,
) -> Parity:
    """Compare a model with the same checkpoint in transformers on prompts, each [T] int64.

    theirs: as `theirs.open_model` makes it. targets [n, L] int64: codes of the item that is to follow each prompt,
    whose log-probabilities are compared. next_logits: our model's, over its whole vocabulary; None: no free beams are
    compared. vocabulary: ids from this one on have no token. progress: called after each prompt and each search.
    """
    if not len(prompts):
        raise InputError("requests", 0, "give at least one request")
    check_tolerance(tolerance)
    check_beam_width(beam_width)
    scores = compare_scores(ours.scores(prompts, targets), teacher_forced(theirs, prompts, targets, ours.sids))
    trie = TokenTrie(ours.catalog.trie, ours.sids)
    steps = len(ours.model.steps)
    searches = [("constrained", penalty) for penalty in LENGTH_PENALTIES]
    searches += [("free", penalty) for penalty in LENGTH_PENALTIES] if next_logits is not None else []
    stop = [end.id for end in ours.sids.end[-1:]]
    total, done = len(searches) * len(prompts), 0
    beams: list[ComparedBeams] = []
    differing: set[int] = set()
    for search, penalty in searches:
        each: list[RequestBeams] = []
        for number, prompt in enumerate(prompts, 1):
            if search == "free":
                assert next_logits is not None
                asked = steps, beam_width, penalty, vocabulary, stop
                mine, other = free_search(next_logits, prompt, *asked), free_beams(theirs, prompt, *asked)
            else:
                mine = ours.beams(prompt, beam_width)
                other = constrained_beams(theirs, prompt, trie, ours.sids, beam_width, penalty)
            found = compare_beams(mine, other, tolerance)
            each.append(found)
            if found.missing or found.out_of_order or not found.difference <= tolerance:
                differing.add(number)
            done += 1
            progress(done, total, f"{search}, length penalty {penalty:g}")
        beams.append(summed(search, penalty, each))
    return Parity(len(prompts), beam_width, tolerance, scores, tuple(beams), tuple(sorted(differing)))
