"""A desk does what of an engine needs no device: it checks requests, and says which are to be searched again."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from octorec.catalog.catalog import Catalog
from octorec.engine.batch import Limits, ParsedRequest, parse
from octorec.engine.policy import Policy
from octorec.engine.rank import Ranked
from octorec.engine.request import Request
from octorec.models.features import Features
from octorec.models.user import UserField


@dataclass(frozen=True, eq=False)
class Desk:
    """A Desk is what another process has of an engine whose model reads codes: it parses, and ranks what is found.

    Where it is asked what an engine is asked, it says the same. checkpoint: how errors name the model.
    """

    catalog: Catalog
    limits: Limits
    checkpoint: str
    prompts: None = None
    domains: Mapping[str, Any] = field(default_factory=dict)

    @property
    def policy(self) -> Policy:
        return self.limits.policy

    @property
    def user_fields(self) -> tuple[UserField, ...]:
        return self.limits.fields

    @property
    def features(self) -> Features:
        return self.limits.features

    def parse(self, request: Request, drop_unknown: bool = False) -> ParsedRequest:
        """Check a request against the catalog. See `batch.parse`."""
        return parse(request, self.catalog, self.limits, drop_unknown)

    def wider(self, ranked: Ranked) -> ParsedRequest | None:
        """Return the same request with wider beams, see `wider`."""
        return wider(self.policy, ranked)


def wider(policy: Policy, ranked: Ranked) -> ParsedRequest | None:
    """Return the same request with wider beams, where it asks for an exact answer and this one is not certified.

    Under caps that is about the list without them; one that caps leave short is searched for again too.
    """
    request, found = ranked.request, ranked if ranked.uncapped is None else ranked.uncapped
    if not request.auto or (found.exact and (ranked.complete or ranked.bound is None)):
        return None
    widths = policy.wider(request.widths, found.scores.tolist(), request.k)
    return None if widths is None else replace(request, widths=widths)
