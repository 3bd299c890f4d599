"""`cjstream run …`: reads arguments, plans and executes research runs, prints their outcome."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from processors.settings import settings_from_environment
from tools.options import Json
from tools.runner.run_arguments import BaseUrl, LogLevel, MetricsFile, RunArguments, takes_run
from tools.runner.run_end import EXIT_CODES

if TYPE_CHECKING:  # importing them takes long
    from tools.runner.execution import FinishedRun
    from tools.runner.progress_log import ProgressLog

run_app = typer.Typer(
    help="Research runs: texts and options in, an artefact and a report out.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
)


@run_app.command()
@takes_run
def plan(arguments: RunArguments) -> None:
    """Show what a run would use and cost, and write nothing; exit 3 if something that it needs is missing."""
    from tools.runner import commands, run_output

    with run_output.reported(
        "plan", arguments.label, arguments.metrics_file, arguments.log_level
    ) as progress:
        planned = commands.planned(arguments, settings_from_environment(), commands.EXECUTE)
        run_output.log_inventory(progress, planned)
        progress.state("plan", None)
    run_output.print_plan(planned, as_json=arguments.as_json)


@run_app.command()
@takes_run
def preflight(
    arguments: RunArguments,
    probe: Annotated[
        bool,
        typer.Option("--probe", help="Also ask the judge, ten times at most, which is paid for."),
    ] = False,
) -> None:
    """Check everything that a run needs, and say what to do about each fault; the exit code is that of the worst."""
    from tools.runner import commands, run_output
    from tools.runner.preflight import refuse_failed
    from tools.runner.services import connected

    settings = settings_from_environment()
    with run_output.reported(
        "preflight", arguments.label, arguments.metrics_file, arguments.log_level
    ) as progress:
        planned = commands.planned(arguments, settings, commands.EXECUTE)
        run_output.log_inventory(progress, planned)
        folder = commands.folder_of(arguments, planned, settings)
        with connected(settings, arguments.base_url, progress.log) as services:
            checks = commands.preflight(planned, folder, services)
        if probe:
            checks += commands.probe(planned, settings)
        run_output.print_checks(checks, as_json=arguments.as_json)
        refuse_failed(checks)
        progress.state("preflight", None)


@run_app.command("dry-run")
@takes_run
def dry_run(arguments: RunArguments) -> None:
    """Plan a run and play it in this process with the simulated judge: artefact and report, and nothing is sent."""
    from tools.runner import run_output
    from tools.runner.commands import DRY_RUN

    with run_output.reported(
        DRY_RUN, arguments.label, arguments.metrics_file, arguments.log_level
    ) as progress:
        finished = _dry_run(arguments, progress, DRY_RUN)
    run_output.print_finished(finished, as_json=arguments.as_json)


@run_app.command(epilog=EXIT_CODES)
@takes_run
def execute(
    arguments: RunArguments,
    no_kafka: Annotated[
        bool, typer.Option("--no-kafka", help="Send nothing anywhere, and end as dry-run does.")
    ] = False,
    force_reupload: Annotated[
        bool, typer.Option("--force-reupload", help="Send also the texts that the store has.")
    ] = False,
) -> None:
    """Upload the texts, send one request, follow it to its result, write artefact and report."""
    from tools.runner import commands, run_output
    from tools.runner.services import connected

    mode = commands.NO_KAFKA if no_kafka else commands.EXECUTE
    with run_output.reported(
        mode, arguments.label, arguments.metrics_file, arguments.log_level
    ) as progress:
        if no_kafka:
            finished = _dry_run(arguments, progress, mode)
        else:
            settings = settings_from_environment()
            planned = commands.planned(arguments, settings, mode)
            run_output.log_inventory(progress, planned)
            folder = commands.folder_of(arguments, planned, settings)
            with connected(settings, arguments.base_url, progress.log) as services:
                commands.know(services, planned.manifest)
                finished = commands.execute(
                    planned, arguments.paths, folder, services, progress, force=force_reupload
                )
            run_output.log_finished(progress, mode, finished)
    run_output.print_finished(finished, as_json=arguments.as_json)


def _dry_run(arguments: RunArguments, progress: "ProgressLog", mode: str) -> "FinishedRun":
    from tools.runner import commands, run_output

    settings = settings_from_environment()
    planned = commands.planned(arguments, settings, commands.DRY_RUN)
    run_output.log_inventory(progress, planned)
    folder = commands.folder_of(arguments, planned, settings)
    finished = commands.dry_run(planned, folder, settings)
    run_output.log_finished(progress, mode, finished)
    return finished


@run_app.command()
def resume(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of the run.")],
    metrics_file: MetricsFile = None,
    log_level: LogLevel = "info",
    base_url: BaseUrl = None,
    as_json: Json = False,
) -> None:
    """Go on with a run that was stopped, killed or timed out; it never sends a second request."""
    from tools.runner import commands, run_output
    from tools.runner.run_folder import RunFolder
    from tools.runner.services import connected

    settings = settings_from_environment()
    with (
        run_output.reported("resume", "", metrics_file, log_level) as progress,
        connected(settings, base_url, progress.log) as services,
    ):
        finished = commands.resume(RunFolder(run), services, progress)
        run_output.log_finished(progress, "resume", finished)
    run_output.print_finished(finished, as_json=as_json)


@run_app.command()
def report(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="The folder of the run, or its batch id.")
    ],
    folder: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where the files go; by default the run's folder."),
    ] = None,
    metrics_file: MetricsFile = None,
    log_level: LogLevel = "info",
    base_url: BaseUrl = None,
    as_json: Json = False,
) -> None:
    """Make artefact and report of a run anew, from the log and the content store alone: everywhere the same bytes."""
    from tools.runner import commands, run_output
    from tools.runner.services import connected

    settings = settings_from_environment()
    with (
        run_output.reported("report", "", metrics_file, log_level) as progress,
        connected(settings, base_url, progress.log) as services,
    ):
        finished = commands.report(run, folder, services, progress)
        run_output.log_finished(progress, "report", finished)
    run_output.print_finished(finished, as_json=as_json)
