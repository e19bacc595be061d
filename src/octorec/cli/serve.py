"""These verbs serve, or ask a server: they have one flag a field of their settings."""

from pathlib import Path
from typing import Annotated, Any

import typer

from octorec.bench.config import BenchConfig
from octorec.bench.output import claimed_outputs
from octorec.cli.flags import with_flags
from octorec.cli.options import A_FILE, Catalogs, Checkpoint, Json, known_device, one_or_several, show
from octorec.engine.model_folder import require_model
from octorec.progress_bar import counting
from octorec.serve.config import ServeConfig, read_config
from octorec.settings import given
from octorec.terminal import say

REFUSED = 1  # exit code where the load tool itself was the bottleneck


@with_flags(ServeConfig, catalog=Catalogs)
def serve(
    checkpoint: Checkpoint,
    config: Annotated[
        Path | None, typer.Option(help="YAML file of the settings below; a flag goes before it.", callback=A_FILE)
    ] = None,
    **flags: Any,
) -> None:
    """Serve a checkpoint over HTTP: POST /v1/recommend, /docs, /v2/health/ready, /metrics. Needs the extra `serve`."""
    settings = read_config(config, {**flags, "catalog": one_or_several(flags["catalog"])})
    settings.look_at_paths()
    known_device(settings.engine.device)
    require_model(checkpoint, settings.engine.catalog)

    from octorec.serve.run import serve

    serve(checkpoint, settings)


@with_flags(BenchConfig)
def bench_serve(
    command: typer.Context,
    url: Annotated[
        str, typer.Argument(help="Where the server listens, such as http://127.0.0.1:8080 or grpc://127.0.0.1:8082.")
    ],
    as_json: Json = False,
    **flags: Any,
) -> None:
    """Ask a server at Poisson times (open loop): goodput, latency and where it goes. Needs the extra `bench`.

    Exit code 1 where the tool itself was the bottleneck of a rate, whose figures are then not given."""
    config = BenchConfig(**given(flags))
    config.look_at_paths()
    command.with_resource(claimed_outputs(config))

    import asyncio

    from octorec.bench.run import bench
    from octorec.bench.ways import way_of
    from octorec.output.write import new_file
    from octorec.report.bench import draw, render

    way_of(url)  # says which extra is missing
    each = f"{config.duration_s:g} s each after {config.warm_up_s:g} s of warm-up, from {config.askers} processes"
    rates = ", ".join(f"{rate:g}" for rate in config.request_rate or ())
    say(f"ahead: {f'{rates} requests/s' if rates else 'what the server can do, and shares of it'}, {each}")
    with counting("asking", "s") as progress:
        rows = asyncio.run(bench(url, config, progress))
    if config.plot is not None:
        with new_file(config.plot, field="plot") as path:
            path.write_text(draw(rows))
    show(as_json, {"rows": rows}, render(rows))
    if any("refused" in row for row in rows):
        raise typer.Exit(REFUSED)
