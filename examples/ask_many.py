"""Ask a server for many people at once: python ask_many.py http://127.0.0.1:8080"""

import asyncio
import sys

from octorec.client import Answer, Asked, AsyncClient

PEOPLE: dict[str, Asked] = {
    "who likes space": {"history": ["50", "181", "172"], "k": 3, "titles": True},
    "who likes mysteries": {"history": ["12", "56", "302"], "k": 3, "titles": True},
    "who wants a comedy": {"history": ["50"], "k": 3, "titles": True, "allow": ["Comedy"]},
    "who is wrong": {"history": ["50"], "k": 3, "allow": ["no such genre"]},
}


async def main() -> None:
    async with AsyncClient(sys.argv[1], timeout_s=20) as client:
        found = await client.recommend_many([*PEOPLE.values()])  # one body, one batch of the device
    for name, one in zip(PEOPLE, found, strict=True):
        print(f"{name}: {', '.join(one.titles or []) if isinstance(one, Answer) else one}")


asyncio.run(main())
