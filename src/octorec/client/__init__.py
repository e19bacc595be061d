"""Client and AsyncClient ask a server of `octorec serve`. They need the extra `client`, and no torch.

from octorec.client import Client

with Client("http://localhost:8080", timeout_s=2.0) as client:
    answer = client.recommend(["50", "181", "172"], k=5, titles=True)
    print(answer.titles, answer.scores, answer.exact)
"""

from octorec.client.answers import Answer
from octorec.client.asked import Asked, Options
from octorec.client.clients import AsyncClient, Client
from octorec.client.errors import DeadlinePassed, Failed, Refused, ServerError, Unauthorized, Unavailable

__all__ = [
    "Answer",
    "Asked",
    "AsyncClient",
    "Client",
    "DeadlinePassed",
    "Failed",
    "Options",
    "Refused",
    "ServerError",
    "Unauthorized",
    "Unavailable",
]
