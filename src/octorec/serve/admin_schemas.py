"""The bodies of the admin port's requests and answers, as OpenAPI documents them."""

from typing import Annotated

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr, model_validator

from octorec.serve.schemas import FIRST, ItemId

MOST = 100_000  # items in one call
Code = Annotated[StrictInt, Field(ge=0, lt=2**31)]
Number = Annotated[StrictFloat, Field(allow_inf_nan=False)]
Vector = Annotated[list[Number], FIRST]
Codes = Annotated[list[Code], FIRST]
Texts = Annotated[list[StrictStr], FIRST]
Several = Annotated[list[ItemId], FIRST, Field(max_length=MOST)]
COLUMNS = {
    "item_id": pa.string(), "title": pa.string(), "sets": pa.list_(pa.string()), "codes": pa.list_(pa.int32()),
    "vector": pa.list_(pa.float64()),
}  # fmt: skip


Force = Annotated[StrictBool, Field(description="Whether to do it also where no item is live afterwards.")]


class Forced(BaseModel):
    model_config = ConfigDict(extra="forbid")
    force: Force = False


class CatalogVersion(Forced):
    version: str = Field(description="Name of a folder below catalog_root.")


class ModelVersion(BaseModel):
    model_config = ConfigDict(extra="forbid")
    version: str = Field(description="Name of a folder below model_root.")
    catalog: str | None = Field(None, description="Folder below catalog_root to switch to with it; else the present.")
    in_place: StrictBool = Field(
        False, description="Copy its weights into the engine's memory: it must be of the same shape, and answer alike."
    )
    force: StrictBool = Field(
        False, description="With in_place: whether to take it also where it does not answer alike."
    )

    @model_validator(mode="after")
    def _fitting(self) -> "ModelVersion":
        if self.in_place and self.catalog is not None:
            raise ValueError("in place the catalog stays: load it by itself")
        if self.force and not self.in_place:
            raise ValueError("force is for in_place: a checkpoint that is loaded beside is not compared")
        return self


class Items(Forced):
    items: Annotated[Several, Field(min_length=1)]


class ChangedItem(BaseModel):
    """A ChangedItem is a new item, or one whose fields change; what is null or not given stays as it is."""

    model_config = ConfigDict(extra="forbid")
    item_id: ItemId
    title: StrictStr | None = None
    sets: Texts | None = Field(None, description="Named sets; an empty list takes it out of all.")
    vector: Vector | None = Field(
        None, description="Where the catalog was built from vectors: gives the item's codes by the saved centroids."
    )
    codes: Codes | None = Field(None, description="Where the catalog was imported; a new item there needs them.")


class ItemChanges(Forced):
    """ItemChanges are all made, or none. `upsert` comes first: a new item may be withdrawn in the same call."""

    upsert: Annotated[list[ChangedItem], FIRST] = Field(
        [], max_length=MOST, description="Items to add or change, each once."
    )
    withdraw: Several = Field([], description="Items that no answer may have; they stay known in histories.")
    restore: Several = Field([], description="Withdrawn items that answers may have again, with the codes they had.")

    @model_validator(mode="after")
    def _some(self) -> "ItemChanges":
        if not (self.upsert or self.withdraw or self.restore):
            raise ValueError("nothing to change: give upsert, withdraw or restore")
        return self


class Refresh(BaseModel):
    """A Refresh says how weights were changed in place, and of what was compared before how alike the answers are."""

    model: str
    requests: int = Field(description="Recent requests that were compared.")
    paused_s: float = Field(description="Seconds for which no batch could run.")
    overlap: float | None = Field(None, description="Mean share of a list's items that both sides' hold.")
    identical: float | None = Field(None, description="Share of lists with the same items.")
    max_drift: float | None = Field(None, description="Difference of log-probabilities, in nats a level.")
    mean_drift: float | None = None


class State(BaseModel):
    model: str
    catalog: str = Field(description="Version by content, as answers state it.")
    previous_catalog: str | None = Field(description="What a rollback goes back to, before withdrawals.")
    live_items: int
    withdrawn: int = Field(description="Items withdrawn through this port.")
    previous_model: str | None = Field(description="Whose weights a rollback goes back to, after a refresh in place.")
    refresh: Refresh | None = Field(description="The newest refresh or rollback of the weights that answer.")
    catalogs: list[str] = Field(description="Names that may be loaded.")
    models: list[str]


class ItemCounts(BaseModel):
    """ItemCounts say what became of the items that were named."""

    added: int
    changed: int = Field(description="In title, sets or codes.")
    recoded: int = Field(description="Of those changed: in codes.")
    withdrawn: int
    restored: int
    unchanged: int


class ItemsState(State):
    changed: ItemCounts


def text_ids(item_ids: list[StrictStr | StrictInt]) -> list[str]:
    """Return item ids as text, as all of OctoRec has them."""
    return [str(item_id) for item_id in item_ids]


def upsert_table(items: list[ChangedItem]) -> pa.Table | None:
    """Return the items as a table with the columns that some item gives, null where an item does not; None of none."""
    if not items:
        return None
    rows = [{**item.model_dump(), "item_id": str(item.item_id)} for item in items]
    given = [name for name in COLUMNS if any(row[name] is not None for row in rows)]
    return pa.table({name: pa.array([row[name] for row in rows], COLUMNS[name]) for name in given})
