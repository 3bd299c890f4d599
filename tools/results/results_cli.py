"""`cjstream results …`: reads arguments, looks results up, prints them."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from processors.settings import settings_from_environment
from schemas.errors import Discrepancy
from tools.options import Json
from tools.printing import number_of, print_json, print_line, print_table

if TYPE_CHECKING:  # importing them takes long
    from processors.log.judging_log import JudgingLog
    from schemas.codec import Codec

results_app = typer.Typer(
    help="Results of judging: scores, ranks, and what they rest on.", no_args_is_help=True
)
BatchId = Annotated[str, typer.Argument(help="The batch id of the request.")]
RunId = Annotated[
    str | None,
    typer.Option("--run-id", help="This run; default: the newest one of the batch id."),
]
LISTED = (
    *("batch_id", "outcome", "reason", "essays", "bound"),
    *("calls", "spent_usd", "judged_at", "run_id"),
)
OPEN = ("batch_id", "run_id", "waves", "comparisons", "answered", "spent_usd")
EXPLAINED = (
    *("number", "wave", "purpose", "shown", "opponent_id", "opponent_theta"),
    *("result", "expected", "residual", "confidence", "attempts"),
)
BAR = 31  # characters
Z_90 = 1.645


@results_app.command("list")
def list_results(
    assignment: Annotated[
        str | None, typer.Option(help="Only those of this assignment id.", metavar="ID")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The number of results.")] = 20,
    as_json: Json = False,
) -> None:
    """List the newest results, newest first, and the batches that are being judged."""
    from processors.log.judging_runs import open_runs
    from tools.results.documents import progress_document, summary_document
    from tools.results.lookup import newest_results

    log, codec = _log()
    judging = [
        {"batch_id": one.run.opened.batch_id, **progress_document(one)}
        for one in open_runs(log, codec)
        if assignment in (None, one.run.opened.context.assignment_id)
    ]
    found = list(map(summary_document, newest_results(log, codec, limit, assignment)))
    if as_json:
        print_json({"judging": judging, "results": found})
        return
    if judging:
        print_table("Being judged", OPEN, _rows(judging, OPEN))
    print_table(f"Results: {len(found)}", LISTED, _rows(found, LISTED))


@results_app.command("show")
def show(batch_id: BatchId, run_id: RunId = None, as_json: Json = False) -> None:
    """Show the result of a batch: ranks and scores with their intervals, reliability, cost; exit 3 if it has none."""
    from tools.results.documents import result_document
    from tools.results.grade_tables import ANCHORED, GRADED, anchor_rows, grade_rows, grading_facts
    from tools.results.lookup import open_run_of_batch, result_of_batch

    log, codec = _log()
    found = result_of_batch(log, codec, batch_id, run_id)
    if found is None:
        logged = open_run_of_batch(log, codec, batch_id, run_id)
        if logged is None:
            raise Discrepancy(f"the log has neither a result nor an open run of batch {batch_id}")
        raise Discrepancy(
            f"batch {batch_id} is being judged: {number_of(len(logged.run.waves), 'wave')},"
            f" {logged.run.answers.count} of {logged.run.planned} comparisons answered"
        )
    document = result_document(found)
    if as_json:
        print_json(document)
        return
    print_table(f"Batch {batch_id}", ("", ""), [*_facts(document), *grading_facts(document)])
    _print_scores("Essays", "essay_id", document["essays"])
    if any(essay["distribution"] for essay in document["essays"]):
        print_table("Grades", GRADED, grade_rows(document["essays"]))
    _print_scores("Anchors", "anchor_id", document["anchors"])
    if document["anchors"]:
        print_table("Grades of anchors", ANCHORED, anchor_rows(document["anchors"]))
    for detail in document["details"]:
        print_line(f"{detail['path']}: {detail['code']}")


@results_app.command("explain")
def explain(
    batch_id: BatchId,
    essay_id: Annotated[str, typer.Argument(help="The id of one of its essays or anchors.")],
    run_id: RunId = None,
    as_json: Json = False,
) -> None:
    """Show every comparison of an essay: against whom, who won, and how probable that was by the scores.

    A residual near 1 is a surprising win, near -1 a surprising loss.
    """
    from tools.results import explain as command
    from tools.results.grade_tables import grade_of

    log, codec = _log()
    document = command.explain(log, codec, batch_id, essay_id, run_id)
    if as_json:
        print_json(document)
        return
    score = document["score"] or {}
    theta = score.get("theta")
    scored = "no score" if theta is None else f"score {theta:.2f} ± {score['se']:.2f}"
    won = {True: "won", False: "lost"}
    if grade := grade_of(score):
        print_line(grade)
    rows = [{**one, "result": won.get(one["won"], one["state"])} for one in document["comparisons"]]
    print_table(f"{essay_id} in batch {batch_id}: {scored}", EXPLAINED, _rows(rows, EXPLAINED))


@results_app.command("tail")
def tail(
    group: Annotated[
        str,
        typer.Option(
            help="The consumer group whose position is continued and committed; default: one of the installation."
        ),
    ] = "",
    follow: Annotated[
        bool, typer.Option("--follow", help="Keep reading; with --json, one object per line.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the results that came since the last tail of this group, each run once, and commit the position.

    An example of a consumer: its file shows the steps. It joins no group: run one of a group at a time.
    """
    from tools.results.documents import summary_document
    from tools.results.tail import tail_results

    settings = settings_from_environment()
    documents = []
    for found in tail_results(settings, group or settings.results_group, follow=follow):
        document = summary_document(found)
        if not as_json:
            print_line(
                "{at}  {batch_id}  {essays} essays  {outcome}: {reason}  {spent_usd} USD".format(
                    **document
                )
            )
        elif follow:
            print_json(document)
        else:
            documents.append(document)
        sys.stdout.flush()
    if as_json and not follow:
        print_json({"results": documents})


def _log() -> "tuple[JudgingLog, Codec]":
    from processors.kafka.clients import admin_client
    from processors.kafka.topic_admin import checked_topics
    from processors.log.judging_log import JudgingLog
    from processors.registry.registry_codec import codec_for

    settings = settings_from_environment()
    checked_topics(admin_client(settings), settings)
    return JudgingLog(settings), codec_for(settings)


def _rows(documents: list[dict[str, Any]], columns: tuple[str, ...]) -> list[tuple[Any, ...]]:
    return [tuple(_cell(document[name]) for name in columns) for document in documents]


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return f"{value:.2f}" if isinstance(value, float) else value


def _facts(document: dict[str, Any]) -> list[tuple[str, Any]]:
    """The lines above the scores."""
    from tools.results.documents import has_r2

    counts, cost = document["counts"], document["cost"]
    failed = ", ".join(f"{one['calls']} {one['reason']}" for one in counts["failed"])
    facts = [
        ("outcome", f"{document['outcome']}: {document['reason']}"),
        ("run", document["run_id"]),
        ("judged at", document["judged_at"]),
        (
            "comparisons",
            f"{counts['answered']} of {counts['comparisons']} answered, {counts['lost']} lost,"
            f" {counts['calls']} calls" + (f" ({failed})" if failed else ""),
        ),
        ("cost", _money(cost)),
        ("context", _context(document["context"])),
    ]
    if judge := document["judge"]:
        used = ", ".join(f"{one['model']} ({one['calls']})" for one in judge["used"])
        asked = f"{judge['asked']['provider']}/{judge['asked']['model']}"
        facts.append(("judge", f"{asked}, answered as {used}" if used else asked))
    if reliability := document["reliability"]:
        r2 = f"r² {reliability['pr']:.2f}, at least {reliability['bound']:.2f} with 95 %"
        if not has_r2(document):
            r2 = "r² is not defined for two texts"
        facts.append(("reliability", f"{r2}; spread {reliability['spread']:.2f} logits"))
        facts.append(
            (
                "shown first",
                f"{reliability['delta']:+.2f} ± {reliability['delta_se']:.2f} logits",
            )
        )
    if document["flags"]:
        facts.append(("flags", ", ".join(document["flags"])))
    return facts


def _money(cost: dict[str, Any]) -> str:
    if cost["spent_usd"] is None:
        return "unknown: the judge has no price"
    unknown = f", {cost['unknown_calls']} calls at their bound" if cost["unknown_calls"] else ""
    return f"{cost['spent_usd']} USD{unknown}, {cost['in_doubt_usd']} USD in doubt"


def _context(context: dict[str, Any]) -> str:
    source = context["assignment_id"] or context["context_source"]
    return f"{source}, prompt from {context['prompt_source']}"


def _print_scores(title: str, name: str, items: list[dict[str, Any]]) -> None:
    """The items by rank, with their 90 % intervals as text and as bars on one scale."""
    if not items:
        return
    scored = [one for one in items if one["theta"] is not None]
    low = min((one["theta"] - Z_90 * one["se"] for one in scored), default=0.0)
    high = max((one["theta"] + Z_90 * one["se"] for one in scored), default=1.0)
    columns = ("rank", "90 %", name, "score", "±", "", "comparisons", "flags")
    rows = [
        (
            _cell(one.get("rank")),
            f"{one['rank_low']}-{one['rank_high']}" if one.get("rank") else "",
            one[name],
            _cell(one["theta"]),
            _cell(one["se"]),
            "" if one["theta"] is None else error_bar(one["theta"], one["se"], low, high),
            one["comparisons"],
            ", ".join(one["flags"]),
        )
        for one in sorted(items, key=lambda one: (one["theta"] is None, -(one["theta"] or 0.0)))
    ]
    print_table(title, columns, rows)


def error_bar(theta: float, se: float, low: float, high: float) -> str:
    """A score and its 90 % interval between low and high, as characters."""
    scale = (BAR - 1) / (high - low) if high > low else 0.0
    start, middle, end = (
        round((value - low) * scale) for value in (theta - Z_90 * se, theta, theta + Z_90 * se)
    )
    cells = ["-" if start <= cell <= end else " " for cell in range(BAR)]
    cells[middle] = "o"
    return "".join(cells)
