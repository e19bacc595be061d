"""An extra of the package brings modules that are optional; this says which extra brings which."""

EXTRA_OF = {
    "fastapi": "serve", "fastapi_offline": "serve", "starlette": "serve",
    "uvicorn": "serve", "uvloop": "serve",
    "httptools": "serve", "prometheus_client": "serve", "orjson": "serve", "zmq": "serve",
    "aiohttp": "bench", "httpx": "client",
    "transformers": "parity", "peft": "parity", "compressed_tensors": "parity",
    "tokenizers": "qwen", "gguf": "families", "accelerate": "families",
    "deep_gemm": "deepgemm", "grpc": "grpc", "grpc_health": "grpc", "google": "grpc",
    "ray": "ray", "fsspec": "ray", "opentelemetry": "otel",
}  # fmt: skip


def how_to_install(error: ImportError) -> str | None:
    """Return one line with the command that installs what was missing, or None where no extra brings it."""
    module = (error.name or "").partition(".")[0]
    extra = EXTRA_OF.get(module)
    return None if extra is None else f"{module} is not installed: run pip install 'octorec[{extra}]'"
