"""The chain of stages: which a run has, what each stands on, what is missing and which command makes it."""

from wmlib.run import Run

Job = tuple[Run, str]  # a run and a stage of it
MAKES = {"train-vae": "vae", "train-mdnrnn": "mdnrnn", "evolve": "controller"}


def stages(run: Run) -> list[str]:
    """The stages that make a run's own parts, in order."""
    memories = run.memories + run.outcomes
    makes = {
        "collect": run.config.collect.total > 0,
        "train-vae": run.owner("vae") == run,
        "train-mdnrnn": any(run.owner(part) == run for part in memories),
        "evolve": True,
    }
    return [stage for stage in makes if makes[stage]]


def is_done(run: Run, stage: str) -> bool:
    """Whether a stage has come to its end; what is kept must be there too."""
    if stage == "collect":
        base = run.kept_from("episodes")
        own = len(run.episodes.find()) >= run.config.collect.total
        return own and (base is None or is_done(base, stage))
    if stage == "evolve":
        return run.generations_done == run.config.evolve.generations
    parts = ["vae"] if stage == "train-vae" else run.memories + run.outcomes
    return all(run.has(part) for part in parts)


def needs(run: Run, stage: str) -> list[Job]:
    """What a stage stands on: stages of this run, or of those that it goes on from."""
    config = run.config
    collected = [(run.collector, "collect")]
    seeing = [(run.owner("vae"), "train-vae")]
    if stage == "collect":
        kept = run.kept_from("episodes")
        needed = [(kept.collector, "collect")] if kept else []
        return needed + (_agent(run) if config.collect.agent_episodes else [])
    if stage == "train-vae":
        return collected
    if stage == "train-mdnrnn":
        owner = run.owner("mdnrnn")
        return collected + seeing + ([(owner, "train-mdnrnn")] if owner != run else [])
    remembering = [(run.owner(part), "train-mdnrnn") for part in run.memories + run.outcomes]
    return [
        *(collected if config.evolve.world == "dream" else []),
        *seeing,
        *remembering,
        *(_agent(run) if config.evolve.start == "base" else []),
    ]


def _agent(run: Run) -> list[Job]:
    """The base's agent, whole."""
    base = run.base
    return [(base, "evolve")] if base else []


def require(run: Run, stage: str) -> None:
    """Raise FileNotFoundError, naming the command, unless all that a stage stands on is done.

    Raises ValueError when the run's base was changed since.
    """
    needed = needs(run, stage)
    for other, before in needed:
        if not is_done(other, before):
            own = other == run
            missing = f"{stage} needs the whole of {before}{'' if own else f' in {other.folder}'}"
            command = other.command(before if own else "agent")
            raise FileNotFoundError(f"{missing} first; run {command}")
    run.check_base({MAKES[before] for other, before in needed if other != run and before in MAKES})


def plan(run: Run) -> list[Job]:
    """All that is still to be done for a run's agent, its bases' part included, in order."""
    todo: list[Job] = []
    for stage in stages(run):
        _visit(run, stage, todo)
    return todo


def _visit(run: Run, stage: str, todo: list[Job]) -> None:
    if (run, stage) in todo or is_done(run, stage):
        return
    for other, before in needs(run, stage):
        _visit(other, before, todo)
    todo.append((run, stage))
