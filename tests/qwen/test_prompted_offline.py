"""Every user of a table is answered by a language model as the engine answers them: from histories and from prompts."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from octorec.engine.request import Request
from octorec.errors import InputError
from octorec.offline.answers import read_answers
from octorec.offline.config import OfflineConfig
from octorec.offline.run import Job, recommend_all
from tests.qwen.made_models import Made

CONFIG = OfflineConfig(k=3, beam_width=16, batch_size=4, block_users=4)
HISTORIES = [["m1", "m2", "m3"], ["m4"], ["m5", "m6"], ["m7"], ["m8", "m9"]]


@pytest.mark.slow
def test_histories_and_prompts_of_a_table(made: Callable[[str], Made], tmp_path: Path) -> None:
    one = made("openonerec")
    one.catalog.save(tmp_path / "catalog")
    job = Job(one.folder, tmp_path / "users.parquet", tmp_path / "recs", CONFIG, str(tmp_path / "catalog"))
    engine = job.engine()
    asked = [Request(history, k=3, beam_width=16) for history in HISTORIES]
    wanted = [answer.items for answer in engine.recommend(asked)]
    users = [f"u{number}" for number in range(len(HISTORIES))]
    prompts = [engine.parse(request).tokens.tolist() for request in asked]  # type: ignore[union-attr]
    for name, column in {"history": HISTORIES, "input_ids": prompts}.items():
        own = Job(one.folder, tmp_path / f"{name}.parquet", tmp_path / name, CONFIG, job.catalog)
        pyarrow.parquet.write_table(pa.table({"user_id": users, name: column}), own.data)
        recommend_all(own, engine=engine)
        assert read_answers(own.out)["item_ids"].to_pylist() == wanted
    pyarrow.parquet.write_table(pa.table({"user_id": users[:2], "text": ["hello", ""]}), job.data)
    with pytest.raises(InputError, match=r"users.parquet: row [12]: text: "):
        recommend_all(job, engine=engine)
