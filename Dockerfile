# The server on one GPU; docs/serving.md says how to build and run it.
FROM python:3.12-slim

# Triton compiles a launcher for each kernel with the C compiler, at the first start.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*

# torch brings its own CUDA libraries; of the host only the driver is needed, which the NVIDIA container runtime mounts.
# --build-arg PIP_ARGS='--extra-index-url URL' chooses another build of torch, such as one without CUDA.
# constraints-cuda.txt pins the pair of torch and triton whose numbers the docs show.
ARG PIP_ARGS=""
WORKDIR /build
COPY pyproject.toml constraints-cuda.txt LICENSE ./
COPY docs/package.md docs/
COPY src src
RUN pip install --no-cache-dir ${PIP_ARGS} '.[serve,grpc]' -c constraints-cuda.txt && rm -rf /build

# Compiled kernels are kept here: mount a volume, so that a restart compiles nothing.
ENV TRITON_CACHE_DIR=/cache/triton \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN useradd --create-home octorec && mkdir -p /cache/triton && chown -R octorec /cache
USER octorec
WORKDIR /home/octorec
VOLUME /cache

EXPOSE 8080
# Liveness, not readiness: a container that still warms up must not be ended.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/v2/health/live', timeout=4)"]
STOPSIGNAL SIGTERM
# Exec form: signals reach the server. /model holds a checkpoint with its catalog.
ENTRYPOINT ["octorec", "serve", "/model", "--host", "0.0.0.0", "--port", "8080"]
CMD ["--device", "cuda"]
