"""The command line. Its options of a sweep are the fields of `SweepConfig`."""

import contextlib
import os
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import click

from ihtjax import interrupts
from ihtjax.cli.options import ABOUT_THE_WAY, config_options
from ihtjax.errors import InputError
from ihtjax.sweeps.config import SweepConfig
from ihtjax.text import printable

# Heavy modules are imported by the command that needs them.


# Files are written before anything is printed: a reader such as head may go before the end.


def echo(text: object) -> None:
    """Print a line on stdout, whose errors name no file."""
    try:
        click.echo(text)
    except OSError as error:
        error.filename = "stdout"
        raise


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="ihtjax")
def cli():
    """Train sparse networks by iterative hard thresholding, thousands at a time.

    \b
    Example:
      ihtjax sweep                     the paper's 15,000 trials, into results/paper
      ihtjax summary results/paper     medians and quartiles for each sparsity level
    """


@cli.command(short_help="Run, resume or extend a sweep.")
@click.argument("run_dir", default="results/paper", type=click.Path(path_type=Path))
@config_options(sweep=True)
@click.option("--batch", type=click.INT, help="trials per compiled call  [default: what the device suits and holds]")
@click.option("--overwrite", is_flag=True, help="delete the results in RUN_DIR first")
def sweep(run_dir, batch, overwrite, **options):
    """Run a sweep into RUN_DIR (default: results/paper), or resume or extend the one that is there.

    With no options this is the paper's experiment: 14 sparsity levels and a dense baseline, 1,000 seed triples
    each, 10,000 steps. The same command resumes a sweep that was stopped; more trials, levels or solvers extend it.
    An option that is left out means its default, not what the run holds.

    \b
    Example:
      ihtjax sweep results/small --levels 3,5,7 --trials 200
    """
    config = SweepConfig(**options)
    from ihtjax.study.summaries import render, summary
    from ihtjax.sweeps import progress, runner

    def kept():
        return runner.kept(run_dir, config, overwrite)

    interrupts.last_words(lambda: f"stopped; {kept()}")
    try:
        runner.sweep(config, run_dir, batch=batch, overwrite=overwrite, show=progress.for_stream())
    except OSError as error:
        raise InputError(f"{_reason(error)}; {kept()}") from error
    interrupts.last_words(lambda: "stopped; the sweep is finished, see: ihtjax summary")
    table = summary(run_dir)
    echo(render(table, run_dir))
    echo(f"\n{table.trials.sum():,} trials in {run_dir}/trials")


@cli.command(short_help="Run one trial and print its certificate.")
@click.option("--s", type=click.INT, required=True, help="sparsity level")
@click.option("--data-seed", type=click.INT, required=True, help="seed of the training and test split")
@click.option("--init-seed", type=click.INT, required=True, help="seed of the initial parameters")
@click.option("--support-seed", type=click.INT, required=True, help="seed of the initial support")
@click.option("--plot", type=click.Path(path_type=Path), help="draw start, end and certificate into this file")
@config_options(sweep=False)
@click.option("--batch", type=click.INT, help="that of the sweep whose row this reproduces  [default: as in sweep]")
def trial(s, data_seed, init_seed, support_seed, plot, batch, **options):
    """Run one trial and print its start, its end and its certificate.

    The seeds are those of a row of the trials table, which this reproduces, or any others.

    \b
    Example:
      ihtjax trial --s 7 --data-seed 42 --init-seed 21 --support-seed 84 --plot trial.png
    """
    config = SweepConfig(**options)
    from ihtjax.sweeps import single

    if plot is not None:
        from ihtjax.study import plots

        plots.check(plot)
    ran = single.run_trial(config, s, data_seed, init_seed, support_seed, batch)
    if plot is not None:
        plots.save(plots.draw_trial(ran), plot)
    echo(single.describe(ran, config))
    if plot is not None:
        echo(f"\ndrawn into {plot}")


@cli.command(short_help="Print medians and quartiles for each sparsity level.")
@click.argument("run_dir", type=click.Path(path_type=Path))
def summary(run_dir):
    """Print medians and quartiles for each sparsity level.

    \b
    Example:
      ihtjax summary results/paper
    """
    from ihtjax.study import summaries
    from ihtjax.sweeps.store.records import Certify
    from ihtjax.sweeps.store.run import RunDirectory

    echo(summaries.render(summaries.summary(run_dir), run_dir))
    if any(isinstance(unit, Certify) for unit in RunDirectory(run_dir).units()):
        echo("\n" + summaries.gaps_in_words(run_dir))
        if lacking := summaries.uncertified(run_dir):
            echo(f"\n{lacking}")


@cli.command(short_help="Draw the paper's figures from a run.")
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--format", default="png", show_default=True, metavar="png|pdf|svg", help="of the files")
@click.option("--only", metavar="NAMES", help="only these figures, as fig09,fig10  [default: all]")
def figures(run_dir, format, only):
    """Draw the paper's figures, and some beyond it, into RUN_DIR/figures; say what the run is not enough for.

    fig01 .. fig15 and table1 are the paper's. curves draws the losses along the way; gap, restarts and steps tell how
    far from the optimum trials end, how many starts come near it, and whether step sizes were valid. Figs. 3 to 5 of
    the paper are schematic or photographs.

    \b
    Example:
      ihtjax figures results/paper --only fig09,fig10
    """
    from ihtjax.paper import drawings
    from ihtjax.text import printable

    drawings.check_format(format)
    names = None if only is None else [name.strip() for name in only.split(",")]
    for name in names or ():
        if name not in drawings.DRAWINGS:
            why = ", which is schematic or a photograph in the paper" if name in ("fig03", "fig04", "fig05") else ""
            raise InputError(f"only: got {name!r}{why}, expected names among {', '.join(drawings.DRAWINGS)}")
    reader_gone = None
    for picture in drawings.drawn(run_dir, names):
        if isinstance(picture, drawings.Undrawable):
            line = f"{picture.name}: {printable(picture.why)}"
        else:
            line = f"{drawings.write(picture, run_dir / 'figures', format)}  {picture.title}"
        try:
            echo(line)
        except BrokenPipeError as error:  # the figures that are still to come are wanted all the same
            reader_gone = error
    if reader_gone:
        raise reader_gone


@cli.command(short_help="Check each file of a run against its recorded hash.")
@click.argument("run_dir", type=click.Path(path_type=Path))
def verify(run_dir):
    """Check each file against its recorded hash; exit with 1 if anything is missing, torn or foreign.

    `ihtjax sweep`, with the options that made the run, computes again what is missing or damaged; `ihtjax oracle`
    does so with certificates.

    \b
    Example:
      ihtjax verify results/paper
    """
    from ihtjax.sweeps.plan import unfinished
    from ihtjax.sweeps.store.records import Certify
    from ihtjax.sweeps.store.run import RunDirectory

    run = RunDirectory(run_dir).require()
    found = run.survey()
    todo = unfinished(run, [*found.whole, *found.broken])
    for path in run.aside():
        echo(f"{printable(path)}: foreign or damaged, set aside and not read; move or delete it as you like")
    for problem in found.problems:
        echo(problem)
    for unit in todo:
        echo(f"{unit}: not computed yet")
    if todo and not found.problems:
        whole, left = len(found.whole), len(todo)
        how = "go on with ihtjax sweep and the options that made the run"
        click.echo(f"unfinished, not damaged: {whole} of {whole + left} units are there, all whole; {how}", err=True)
        sys.exit(1)
    if found.problems:
        foreign = sum(problem.what.startswith("foreign") for problem in found.problems)
        uncertified = sum(isinstance(unit, Certify) for unit in found.broken)
        advice = []
        if todo or len(found.broken) > uncertified or foreign + uncertified < len(found.problems):
            advice.append("ihtjax sweep, with the options that made the run, computes what is damaged or missing")
        if uncertified:
            advice.append("ihtjax oracle, with the options that made them, computes damaged certificates again")
        if foreign:
            advice.append("move foreign files away")
        click.echo("; ".join(advice), err=True)
        sys.exit(1)
    if found.unlisted:
        echo(f"{len(found.unlisted)} of them not in the index yet, which ihtjax sweep adds; their files say it too")
    echo(f"{run_dir}: {len(found.whole)} units, all whole")


@cli.command(short_help="Tell how far each trial is from the best possible.")
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--levels", metavar="LEVELS", help="which of the run's levels, as in sweep  [default: all]")
@click.option("--trials", type=click.INT, help="only so many trials of each level, the first  [default: all]")
@click.option(
    "--enumerate/--no-enumerate",
    "enumerate_supports",
    default=True,
    show_default=True,
    help="search all supports; without it only step sizes and each trial's own support are certified",
)
def oracle(run_dir, **options):
    """Tell how far each trial is from the best possible, and whether its step size was valid.

    Writes RUN_DIR/certificates, a row for each trial: the range of L_2s and the step's status, the infimum of the loss
    over the trial's own support, and the least over all supports of its size, both in float64. The same command
    resumes.

    \b
    Example:
      ihtjax oracle results/paper
    """
    from ihtjax.study import optimality, summaries
    from ihtjax.sweeps import progress
    from ihtjax.sweeps.store.records import Certify
    from ihtjax.sweeps.store.run import RunDirectory

    def kept():
        # Not what the index lists: a file may be torn since, or the last be written and not listed.
        whole = RunDirectory(run_dir).survey().whole
        trials = sum(unit.stop - unit.start for unit in whole if isinstance(unit, Certify))
        return f"certificates of {trials:,} trials are safe in {run_dir}, the same command goes on"

    interrupts.last_words(lambda: f"stopped; {kept()}")
    try:
        optimality.certify_run(run_dir, show=progress.for_stream(), **options)
    except OSError as error:
        raise InputError(f"{_reason(error)}; {kept()}") from error
    echo(f"{summaries.header(run_dir)}\n\n{summaries.gaps_in_words(run_dir)}")


@cli.command(short_help="Map all HT-stable points of one split, and where IHT ends.")
@click.option("--s", type=click.INT, required=True, help="sparsity level")
@click.option("--data-seed", type=click.INT, required=True, help="seed of the training and test split")
@click.option("--starts", type=click.INT, default=1000, show_default=True, help="starts of IHT")
@click.option("--plot", type=click.Path(path_type=Path), help="draw the atlas into this file")
@click.option("--csv", type=click.Path(path_type=Path), help="write a row for each support into this file")
@click.option("--seed", type=click.INT, default=0, show_default=True, help="root seed of the starts")
@config_options(
    sweep=False,
    needed={"step_size": ("FLOAT", "one gamma for all starts  [required]")},
    without=("n_monte", *ABOUT_THE_WAY),
)
def atlas(s, data_seed, starts, plot, csv, **options):
    """Map all HT-stable points of one split and level, and count where IHT ends from many starts.

    Needs one step size for all starts, as a number.

    \b
    Example:
      ihtjax atlas --s 5 --data-seed 42 --step-size 0.686 --plot atlas.png
    """
    config = SweepConfig(**options, curve_points=0)
    from ihtjax.study import atlas as atlases
    from ihtjax.sweeps.store import files

    if plot is not None:
        from ihtjax.study import plots

        plots.check(plot)
    if csv is not None:
        files.check_output("csv", csv)
    found = atlases.build_atlas(config, s, data_seed, starts)
    if csv is not None:
        files.write_output(csv, found.points.to_csv(index=False).encode())
    if plot is not None:
        plots.save(plots.draw_atlas(found, config), plot)
    echo(atlases.describe(found, config))
    if csv is not None:
        echo(f"\n{len(found.points):,} supports in {csv}")
    if plot is not None:
        echo(f"\ndrawn into {plot}")


@cli.command(short_help="Tell how many starts come near the global optimum.")
@click.option("--data-seed", type=click.INT, required=True, help="seed of the training and test split")
@click.option("--levels", metavar="LEVELS", help="as in sweep")
@click.option("--starts", type=click.INT, default=1000, show_default=True, help="starts of IHT, for each level")
@click.option("--epsilon", type=click.FLOAT, default=0.01, show_default=True, help="how near, in the loss's units")
@click.option("--plot", type=click.Path(path_type=Path), help="draw the chances into this file")
@click.option("--seed", type=click.INT, default=0, show_default=True, help="root seed of the starts")
@config_options(sweep=False, without=ABOUT_THE_WAY)
def restarts(data_seed, starts, epsilon, plot, **options):
    """Tell how many starts it takes to come within epsilon of the global optimum of one split, with 95 % chance.

    \b
    Example:
      ihtjax restarts --data-seed 42 --levels 3,5,7 --plot restarts.png
    """
    config = SweepConfig(**options, curve_points=0)
    from ihtjax.study import starts as many

    if plot is not None:
        from ihtjax.study import plots

        plots.check(plot)
    table = many.restart_budget(config, data_seed, starts, epsilon)
    if plot is not None:
        plots.save(plots.draw_budget(table, epsilon, data_seed, many.settled(config)), plot)
    echo(many.render(table, epsilon, config, data_seed))
    if plot is not None:
        echo(f"\ndrawn into {plot}")


@cli.command(short_help="Write the paper's claims, judged by a run, as one HTML page.")
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="print the verdicts as JSON, and write no page")
@click.option(
    "--with",
    "others",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="RUN_DIR2",
    help="judge this run too, and show which verdicts change; may be given again",
)
def report(run_dir, as_json, others):
    """Judge each claim of the paper by a run, and write RUN_DIR/report.html: verdicts, figures, configuration.

    The page needs no network. Claims about optima and the validity of steps need certificates: ihtjax oracle.

    \b
    Example:
      ihtjax sweep results/stopped --stop-loss 0.05
      ihtjax report results/paper --with results/stopped
    """
    from ihtjax.paper import page
    from ihtjax.sweeps import progress

    show = progress.for_stream()
    if as_json:
        _, found, compared = page.judged(run_dir, others, show)
        echo(page.verdicts_json(found, compared))
        return
    echo(f"{page.report(run_dir, show, others)}")


@cli.command(short_help="Measure this device's throughput, as JSON.")
@click.option("--data", default="iris", show_default=True, help="as in sweep")
@click.option("--target", help="as in sweep")
@click.option("--levels", metavar="LEVELS", default="1,7,14", show_default=True, help="sparsity levels, as in sweep")
@click.option("--trials", type=click.INT, default=1000, show_default=True, help="trials per level of the sweep")
@click.option("--steps", type=click.INT, default=10_000, show_default=True, help="steps per trial of the sweep")
@click.option("--precision", default="float32", show_default=True, metavar="float32|float64", help="as in sweep")
@click.option("--repeats", type=click.IntRange(1), default=5, show_default=True, help="timed runs of each figure")
def bench(repeats, **options):
    """Measure the throughput of the device at hand: JSON on stdout, a table on stderr.

    Lane-steps per second of the iteration by batch and level, its FLOP per second beside those of a large matrix
    product measured on the spot, seconds to compile, and where the time of a sweep with these options goes; with
    all repeats, the date, the commit and the device. Takes about a minute on two cores; nothing else
    should run meanwhile.

    \b
    Example:
      ihtjax bench > bench.json
    """
    config = SweepConfig(**options)
    import json

    from ihtjax.study import benchmark
    from ihtjax.sweeps import progress

    found = benchmark.bench(config, repeats=repeats, show=progress.for_stream())
    click.echo("\n" + benchmark.render(found), err=True)
    echo(json.dumps(found, indent=1))


def _in_a_line(shown: Callable) -> Callable:
    """How warnings are shown: our own as a line, without the place in the code that they come from."""

    def show(message, category, filename, *args):
        if not Path(filename).is_relative_to(Path(__file__).parents[1]):
            return shown(message, category, filename, *args)
        with contextlib.suppress(OSError, ValueError):  # stderr is closed or full
            click.echo(f"ihtjax: warning: {printable(' '.join(str(message).split()))}", err=True)

    return show


def main(argv: list[str] | None = None) -> None:
    """Run the command line; what a user can mend becomes one line on stderr and exit code 2."""
    with warnings.catch_warnings():
        warnings.showwarning = _in_a_line(warnings.showwarning)
        _main(argv)


def _main(argv):
    argv = sys.argv[1:] if argv is None else argv
    command = next((cli.commands[word] for word in argv if word in cli.commands), None)
    try:
        sys.exit(cli.main(argv, prog_name="ihtjax", standalone_mode=False) or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(2)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else f"ihtjax {command.name}" if command else "ihtjax"
        fail(f"{error.format_message().rstrip('.')}; see: {path} --help")
    except InputError as error:
        fail(str(error), command)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        fail(_reason(error))
    except ValueError as error:
        # JAX reads its variables when it is imported; if that fails, it isn't there.
        name = re.search(r"\bjax_\w+", str(error), re.IGNORECASE)
        if name is None or "jax" in sys.modules:
            raise
        fail(f"{name[0].upper()}: got {os.environ.get(name[0].upper())!r}, which JAX can't use; correct or unset it")
    except MemoryError:
        fail("not enough memory; use a smaller --batch, --n-monte or --trials")
    except (KeyboardInterrupt, click.Abort):
        interrupts.stop()
    finally:
        try:
            sys.stderr.flush()
        except (AttributeError, OSError, ValueError):
            # Closed or full: what is left in its buffer goes nowhere, instead of into the exit code.
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


# What errors of the library call by its Python name, beside the name of a parameter at their start.
OPTIONS = {"overwrite=True": "--overwrite", "enumerate_supports=False": "--no-enumerate"}


def _reason(error: OSError) -> str:
    return f"{error.filename or 'a file'}: {error.strerror or error}"


def fail(message: str, command: click.Command | None = None) -> None:
    """Print an error's line, where a parameter at its start is called as the command's option is; exit with 2."""
    for argument, option in OPTIONS.items():
        message = message.replace(argument, option)
    name, colon, rest = message.partition(": ")
    flags = {its.name: its.opts[0] for its in (command.params if command else ())}
    if flags.get(name, "").startswith("--"):
        message = flags[name] + colon + rest
    click.echo(f"ihtjax: error: {printable(' '.join(message.split()))}", err=True)
    sys.exit(2)
