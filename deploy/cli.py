"""The command line: ``python -m deploy predict``."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from data_prep.images import Transform
from data_prep.unforeseen import told
from deploy.stopping import ended_by_sigterm

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
console = Console()

ModelsDir = Annotated[Path | None, typer.Option("--models_dir", help="Folder of the weights; left out: the bundle's.")]
Secret = Annotated[Path | None, typer.Option(help="File of the site's secret; left out: ~/.config/namd/secret.")]
Solver = Annotated[str, typer.Option(help="ddim, or dpmpp, which needs fewer steps.")]
NumSteps = Annotated[int, typer.Option("--num_steps", min=1, help="Of the solver.")]


@app.callback()
def options() -> None:
    """From one scan, a point and a record to a result. Research use only, not for any clinical decision."""


@app.command()
def predict(
    series: Annotated[Path, typer.Argument(help="Folder with one DICOM series, or NIfTI or MetaImage file.")],
    point: Annotated[str, typer.Option(help="The nodule's centre, x,y,z in mm, LPS as in DICOM.")],
    ehr: Annotated[Path, typer.Option(help="The record: a JSON object of the 13 features.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    interval_days: Annotated[
        float, typer.Option("--interval_days", min=1, help="From the scan to the follow-up.")
    ] = 365,
    models_dir: ModelsDir = None,
    num_runs: Annotated[int, typer.Option("--num_runs", min=1, help="Follow-ups to generate.")] = 20,
    solver: Solver = "ddim",
    num_steps: NumSteps = 50,
    guidance_scale: Annotated[
        float | None, typer.Option("--guidance_scale", help="By the record; left out: the weights' own, 1 is none.")
    ] = None,
    series_uid: Annotated[
        str | None, typer.Option("--series_uid", help="SeriesInstanceUID, where the folder holds several series.")
    ] = None,
    transform: Annotated[
        Transform | None, typer.Option(help="Of NIfTI whose qform and sform differ, the one that is right.")
    ] = None,
    dicom: Annotated[
        Path | None, typer.Option(help="Folder to write DICOM objects of the result to, each marked as synthetic.")
    ] = None,
    with_slice: Annotated[
        bool, typer.Option("--with_slice", help="Among them the CT slice with a follow-up in it, SYNTHETIC on it.")
    ] = False,
    secret: Secret = None,
) -> None:
    """Generate follow-ups of one nodule, and say what they tell."""
    from data_prep.single import point_of
    from deploy import case
    from scripts.files import read_mapping

    if dicom is not None and transform is not None:
        raise case.CaseError("--transform: of NIfTI, but --dicom takes a DICOM series. Leave one of them out.")
    asked = (series, point_of(point), read_mapping(ehr, case.CaseError), out)
    settings: dict[str, Any] = {"num_runs": num_runs, "solver": solver, "num_steps": num_steps}
    if guidance_scale is not None:
        settings["guidance_scale"] = guidance_scale
    predictor = case.Predictor(models_dir, **settings)
    which: dict[str, Any] = {"interval_days": interval_days, "series_uid": series_uid}
    with ended_by_sigterm():
        if dicom is None:
            result = predictor.predict(*asked, transform=transform and transform.value, **which)
        else:
            from deploy import dicom_case

            result = dicom_case.predict(predictor, *asked, dicom, secret=secret, with_slice=with_slice, **which)
    print_result(result, out)


@app.command()
def worker(
    config: Annotated[Path, typer.Argument(help="TOML file; see deploy/worker/README.md.")],
    once: Annotated[bool, typer.Option("--once", help="Stop when nothing is due.")] = False,
) -> None:
    """Answer what is asked for in a folder or an archive, and deliver it to the archives that the site allows."""
    import logging

    from deploy.trust import check_trusted
    from deploy.worker import Worker, read_config

    check_trusted(config)
    os.umask(0o077)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger("deploy.worker").setLevel(logging.INFO)
    with ended_by_sigterm():
        Worker(read_config(config)).run(once)


@app.command()
def status(config: Annotated[Path, typer.Argument(help="The worker's TOML file.")]) -> None:
    """Say how many requests lie in each state, what those wait for that are not answered, and since when."""
    import time

    from deploy.worker import Spool, read_config

    spool = Spool(read_config(config).spool)
    for name, count in spool.status().items():
        console.print(f"{name} {count}", highlight=False)
    for what, (count, since) in spool.waits().items():
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(since))
        console.print(f"{count} for {what}, since {when}", highlight=False, soft_wrap=True)


@app.command()
def retry(
    config: Annotated[Path, typer.Argument(help="The worker's TOML file.")],
    numbers: Annotated[list[str] | None, typer.Argument(help="Of dead requests, as the log names them.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All that are dead and can be tried again.")] = False,
) -> None:
    """Have dead requests answered after all, as they were asked for; the worker goes on meanwhile."""
    from deploy.worker import Spool, read_config
    from deploy.worker.config import ConfigError

    if every == bool(numbers):
        raise ConfigError("retry: expected numbers of dead requests, or --all.")
    spool = Spool(read_config(config).spool)
    dead = spool.dead()
    for number in list(dead) if every else numbers or []:
        if number not in dead:
            raise ConfigError(f"{number}: no dead request that can be tried again has this number.")
        spool.retry(dead[number])
        console.print(f"{number} is tried again", highlight=False, soft_wrap=True)


@app.command()
def healthy(
    config: Annotated[Path, typer.Argument(help="The worker's TOML file.")],
    within_minutes: Annotated[
        float, typer.Option("--within_minutes", min=0, help="Longer than one request may take.")
    ] = 30,
) -> None:
    """Say whether the worker lives: exit status 1 where it began no request and did not look for one for so long."""
    from deploy.worker import Spool, read_config

    silent = Spool(read_config(config).spool).silent_s() / 60
    ago = f"{silent:.1f} minutes ago" if math.isfinite(silent) else "never"
    console.print(f"last sign of life: {ago}", highlight=False)
    if silent > within_minutes:
        raise typer.Exit(1)


@app.command("self-test")
def self_test() -> None:
    """Prove this installation on a drawn nodule: a line a check, exit status 1 where one fails."""
    from deploy.self_test import self_test

    if not self_test(lambda line: console.print(line, soft_wrap=True, highlight=False, markup=False)):
        raise typer.Exit(1)


@app.command()
def page(
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8044,
    served_as: Annotated[
        list[str] | None, typer.Option("--served_as", help="Further name under which browsers reach it.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option("--token_file", help="File of a token that whoever opens the page has to know.")
    ] = None,
    proxy_header: Annotated[
        str | None, typer.Option("--proxy_header", help="In which a reverse proxy with TLS says who asks.")
    ] = None,
    proxy_from: Annotated[
        list[str] | None, typer.Option("--proxy_from", help="Address of that proxy; left out: loopback.")
    ] = None,
    certificate: Annotated[Path | None, typer.Option(help="For HTTPS, with --key.")] = None,
    key: Annotated[Path | None, typer.Option(help="For HTTPS.")] = None,
    models_dir: ModelsDir = None,
    secret: Secret = None,
    num_runs: Annotated[int, typer.Option("--num_runs", min=1, max=100, help="Follow-ups to generate.")] = 20,
    solver: Solver = "ddim",
    num_steps: NumSteps = 50,
    keep_minutes: Annotated[
        float, typer.Option("--keep_minutes", min=1, help="Without a request, after which a session is deleted.")
    ] = 60,
    upload_mb: Annotated[int, typer.Option("--upload_mb", min=1, help="Of one scan.")] = 1024,
) -> None:
    """Serve a page for one case at a time, on this machine alone unless it is told otherwise."""
    import logging

    from deploy.page import Settings, serve
    from deploy.trust import check_trusted

    check_trusted()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    told = {name: value for name, value in locals().items() if name in Settings.__dataclass_fields__}
    lists = {"served_as": tuple(served_as or ()), "proxy_from": tuple(proxy_from or ("127.0.0.1", "::1"))}
    sampling = {"num_runs": num_runs, "solver": solver, "num_steps": num_steps}
    serve(Settings(**{**told, **lists, "sampling": sampling}))


@app.command()
def door(
    config: Annotated[Path, typer.Argument(help="The worker's TOML file, with tokens.")],
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8043,
) -> None:
    """Take requests by HTTP on this machine, for the worker to answer; nginx stands in front."""
    from deploy.trust import check_trusted
    from deploy.worker import read_config
    from deploy.worker.config import ConfigError

    check_trusted(config)
    os.umask(0o077)
    settings = read_config(config)
    if not settings.tokens:
        raise ConfigError(f"{config}: no tokens; expected a file of one for each who may ask.")
    try:
        from deploy.worker.door import serve
    except ModuleNotFoundError as error:
        raise ConfigError(f"The door needs {error.name}. In the project: pip install -e '.[page]'") from error
    serve(settings, port)


@app.command()
def purge(
    config: Annotated[Path, typer.Argument(help="The worker's TOML file.")],
    older_than: Annotated[
        float | None, typer.Option("--older_than", min=0, help="Days; left out: keep_days of the TOML file.")
    ] = None,
) -> None:
    """Remove what was answered, dead requests with their studies, and results; what waits stays."""
    from deploy.worker import Spool, read_config
    from deploy.worker.config import ConfigError

    settings = read_config(config)
    if (days := settings.keep_days if older_than is None else older_than) is None:
        raise ConfigError(f"{config}: no keep_days; expected it there, or --older_than DAYS.")
    for name, count in Spool(settings.spool).purge(days).items():
        console.print(f"{name} {count} removed", highlight=False)


def print_result(result: dict[str, Any], out: Path) -> None:
    """The headline, the flags, and what to open."""
    from scripts.results.table import headline

    console.print(headline(result), soft_wrap=True, highlight=False)
    for flag in result["flags"]:
        console.print(f"[yellow]flag:[/yellow] {flag}", soft_wrap=True, highlight=False)
    console.print(
        f"{out}: nodule/panel.png, nodule/result.json. Images are synthetic; research use only.", soft_wrap=True
    )


def main() -> None:
    """Runs the command line; faults of the scan, the point or the record go to stderr in words, with exit status 2."""
    try:
        app(prog_name="python -m deploy")
    except Exception as error:
        if (message := told_within(error)) is None:
            raise
        print(message, file=sys.stderr)
        sys.exit(2)


def told_within(error: BaseException) -> str | None:
    """The message of what a user can mend, MONAI's wrappers taken off; None of all else."""
    cause: BaseException | None = error
    while cause is not None and (message := told(cause)) is None:
        cause = cause.__cause__ or cause.__context__
    return None if cause is None else message
