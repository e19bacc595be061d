"""A replica of Ray Serve that does nothing: what it takes through Ray's entrance is Ray's own."""

from typing import Any

from ray import serve

ANSWER = b'{"timings":{"device_ms":0.0}}'


class Empty:
    """An Empty answers every request with the same few bytes, once its body is read."""

    def __serve_build_asgi_app__(self) -> Any:
        return answer


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """Answer one request, or see the application's life through."""
    if scope["type"] == "lifespan":
        for _ in range(2):
            told = await receive()
            await send({"type": f"{told['type']}.complete"})
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": ANSWER})


deployment: Any = serve.deployment(serve.ingress()(Empty), name="Empty", max_ongoing_requests=100)
app = deployment.bind()
