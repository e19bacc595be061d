"""These verbs of `octorec ray` write what Ray Serve reads, and what its replicas follow."""

from pathlib import Path
from typing import Annotated, Any

import typer

from octorec.cli.flags import with_flags
from octorec.cli.options import A_FILE, Catalogs, Checkpoint, Json, known_device, one_or_several, show
from octorec.engine.model_folder import require_model
from octorec.errors import InputError
from octorec.reading import read_text
from octorec.serve.config import ServeConfig, read_config
from octorec.serve.ray_config import RayOptions, absolute, config_file
from octorec.settings import given

ray_app = typer.Typer(no_args_is_help=True, help="Serve from several replicas: Ray Serve's config, the manifest.")

ManifestPath = Annotated[str, typer.Argument(metavar="MANIFEST", help="The manifest's path or URL.")]


@ray_app.callback()
def ray() -> None:
    """Serve from several replicas: Ray Serve's config, the manifest."""


@ray_app.command("config")
@with_flags(RayOptions)
@with_flags(ServeConfig, catalog=Catalogs)
def ray_config(
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Option(help="The config file to write, for `serve run` and `serve deploy`.")],
    config: Annotated[
        Path | None, typer.Option(help="YAML file of the server's settings; a flag goes before it.", callback=A_FILE)
    ] = None,
    **flags: Any,
) -> None:
    """Write the config file of `serve run` and `serve deploy`; a manifest that is not there yet too. Needs the extra
    `ray`."""
    of_ray = {name: flags.pop(name) for name in vars(RayOptions())}
    settings = read_config(config, {**flags, "catalog": one_or_several(flags["catalog"])})
    options = RayOptions(**given(of_ray))
    content = config_file(checkpoint, settings, options)
    settings.look_at_paths()
    known_device(settings.engine.device)
    require_model(checkpoint, settings.engine.catalog)

    import yaml

    from octorec.output.write import new_file
    from octorec.serve.manifest import begin_manifest

    with new_file(out, field="out", ours=_is_ours) as path:
        path.write_text(yaml.safe_dump(content, sort_keys=False))
    if options.manifest is not None:
        begin_manifest(absolute(options.manifest))


@ray_app.command("want")
def ray_want(
    manifest: ManifestPath,
    model: Annotated[str | None, typer.Option(help="Name of a folder below model_root.")] = None,
    catalog: Annotated[str | None, typer.Option(help="Name of a folder below catalog_root.")] = None,
    withdraw: Annotated[
        list[str] | None, typer.Option(help="Item id that no answer may have; @FILE reads a text file, one a line.")
    ] = None,
    restore: Annotated[list[str] | None, typer.Option(help="Item id, or @FILE, that is withdrawn no more.")] = None,
    experiment: Annotated[
        str | None,
        typer.Option(help="The experiment's YAML file, for replicas that start; read again by those that run it."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Set what all replicas are to serve: each begins to within seconds, and a load takes its time."""
    gone, back = ids(withdraw, "withdraw"), ids(restore, "restore")
    if both := sorted(gone & back):
        raise InputError("restore", both[0], "stands in withdraw too")
    changes = given({"model": model, "catalog": catalog, "experiment": experiment and absolute(experiment)})
    from octorec.serve.manifest import Manifest, change_manifest, check_version

    check_version(model, "model")
    check_version(catalog, "catalog")

    def change(now: Manifest) -> dict[str, Any]:
        if missing := sorted(back - now.withdrawn):
            raise InputError("restore", missing[0], "the manifest does not withdraw it")
        return {**changes, "withdrawn": now.withdrawn.union(gone) - back}

    new = change_manifest(absolute(manifest), change)
    said = f"generation {new.generation}: model {new.model}, catalog {new.catalog}, {len(new.withdrawn)} withdrawn"
    show(as_json, {**vars(new), "withdrawn": sorted(new.withdrawn)}, said)


@ray_app.command("state")
def ray_state(manifest: ManifestPath, as_json: Json = False) -> None:
    """Say what the manifest wants, and what each replica has done. Exit code 1: one of them has not done it all."""
    from octorec.serve.manifest import read_followed, read_manifest

    wanted, replicas = read_manifest(absolute(manifest)), read_followed(absolute(manifest))
    done = all(one.fault is None and one.generation == wanted.generation for one in replicas)
    lines = [f"wanted: generation {wanted.generation}, model {wanted.model}, catalog {wanted.catalog}"]
    for one in replicas:
        behind = one.fault or ("done" if one.generation == wanted.generation else f"at generation {one.generation}")
        lines.append(f"{one.replica}: {one.model}, {one.catalog}, {one.withdrawn} withdrawn: {behind}")
    about = {"wanted": {**vars(wanted), "withdrawn": sorted(wanted.withdrawn)}, "done": done}
    show(as_json, {**about, "replicas": [vars(one) for one in replicas]}, *lines)
    if not done:
        raise typer.Exit(1)


def ids(texts: list[str] | None, field: str) -> set[str]:
    """Return the ids of an option that is repeated; of @FILE, those of its lines."""
    found: set[str] = set()
    for text in texts or []:
        lines = read_text(text[1:], field).splitlines() if text.startswith("@") else [text]
        found |= {line.strip() for line in lines if line.strip()}
    return found


def _is_ours(path: Path) -> bool:
    """Tell whether a file is one that this verb wrote."""
    return "import_path: octorec.serve.ray:app" in read_text(path, "out")
