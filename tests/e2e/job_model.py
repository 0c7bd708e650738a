"""What a compression in parts must answer, call by call, and what must stand in the store then.

A sequence is a list of steps that do not know of one another, so that any of them can be left out: steps that
say nothing where they come (a shard of a job that nobody planned) are passed over.
"""

import dataclasses

SHARDS = 3
SOURCES = {"a": (0, 0, 0), "b": (0, 1, 0)}  # which bytes each shard has
OPTIONS = ("importance", "dense", "off")  # with a measurement; a detection alone; neither
PLACES = ("one", "two")


@dataclasses.dataclass
class Job:
    """What its caller holds of it."""
    source: str
    prepared: bool = False


class Model:
    """Answers are ErrorReasons, or what was done and of which options and source."""

    def __init__(self):
        self.source = "a"
        self.jobs = {}  # (place, options): the last Job that was planned
        self.parts = {}  # (place, options, source): {part: whether its bytes are sound}
        self.outputs = {}  # place: (options, source)

    def _of(self, place, options):
        job = self.jobs[place, options]
        return job, self.parts.setdefault((place, options, job.source), {})

    def plan(self, place, options):
        if place in self.outputs:
            return "OUTPUT_EXISTS"
        self.jobs[place, options] = Job(self.source)
        return "planned", options, self.source

    def prepare(self, place, options):
        job, parts = self._of(place, options)
        if job.source != self.source:
            return "SOURCE_CHANGED"
        parts |= {"source": True} | ({"importance": True} if options == "importance" else {})
        job.prepared = True
        return "prepared", options, job.source

    def shard(self, place, options, index):
        job, parts = self._of(place, options)
        # Where the job's record of the source stands, a worker looks at its own shard alone.
        changed = [i for i in range(SHARDS) if SOURCES[job.source][i] != SOURCES[self.source][i]]
        if index in changed or (changed and "source" not in parts):
            return "SOURCE_CHANGED"
        if skipped := index in parts:
            return "shard", options, job.source, index, skipped
        if index >= SHARDS or (options != "off" and not job.prepared):
            return "OPTION_INVALID"
        if options == "importance" and "importance" not in parts:
            return "SOURCE_NOT_FOUND"
        parts[index] = True
        return "shard", options, job.source, index, skipped

    def finalize(self, place, options, overwrite):
        job, parts = self._of(place, options)
        own = options, job.source
        known = options == "off" or job.prepared
        complete = all(i in parts for i in range(SHARDS)) and (
            options != "importance" or "importance" in parts)
        if job.source != self.source:
            return "SOURCE_CHANGED"
        blocked = place in self.outputs and not overwrite
        if (blocked or (known and not complete)) and not (known and self.outputs.get(place) == own):
            return "OUTPUT_EXISTS" if blocked else "SOURCE_NOT_FOUND"
        if not known:
            return "OPTION_INVALID"
        if not blocked and complete and not all(parts.values()):
            return "DIGEST_MISMATCH"
        parts.clear()
        self.outputs[place] = own
        return "written", *own

    def compress(self, place, options, overwrite):
        if place in self.outputs and not overwrite:
            return "OUTPUT_EXISTS"
        self.outputs[place] = options, self.source
        return "written", options, self.source

    def verify(self, place):
        return "matches" if place in self.outputs else "NOT_A_CHECKPOINT"


def is_drawn(model, step):
    """Whether a step says anything where it comes, and is not one of those that are known to be answered
    wrongly or may be answered otherwise one day:

    * a finalize with detection off where the output of another version of the source stands, without overwrite
      or before all shards are there: it is told that its own was written, and its shards are removed;
    * a compression of what stands there already, without overwrite: a lost answer, which fails for good;
    * a shard of a job whose output stands: it is made again, and stays for ever.

    Never drawn at all, as no step makes them: a source that changes where no sample of the job's key lies
    (both sources differ in a sampled place), a job without the source's digest whose source changes,
    and a plan that overwrites, for which the request has no field.
    """
    name, place, *rest = step[0], step[1], *step[2:]
    if name == "cut":
        return is_drawn(model, step[3])
    if name in ("prepare", "shard", "finalize", "changed", "lose", "damage"):
        if (place, rest[0]) not in model.jobs:
            return False
        options, job = rest[0], model.jobs[place, rest[0]]
        stands = model.outputs.get(place)
        parts = model.parts.get((place, options, job.source), {})
        if name == "finalize":
            fresh = rest[1] and all(i in parts for i in range(SHARDS))
            return fresh or stands not in {("off", s) for s in SOURCES if s != job.source}
        if name in ("lose", "damage"):
            return rest[1] in parts and (name == "lose" or parts[rest[1]])
        return name != "shard" or stands != (options, job.source)
    if name == "compress":
        return rest[1] or model.outputs.get(place) != (rest[0], model.source)
    return True


def simulate(model, step):
    """What a step does to a model, be the call cut or not."""
    name, *arguments = step
    if name == "source":
        model.source = arguments[0] if arguments[0] in SOURCES else model.source
    elif name == "remove":
        model.outputs.pop(arguments[0], None)
    elif name in ("lose", "damage"):
        place, options, index = arguments
        parts = model.parts[place, options, model.jobs[place, options].source]
        parts[index] = False
        if name == "lose":
            del parts[index]
    elif name != "changed":
        call = arguments[-1] if name == "cut" else step
        getattr(model, call[0])(*call[1:])


def useful(rng, model, place, options):
    """What brings a job on, nearly always."""
    job = model.jobs.get((place, options))
    if job is None or (job.source != model.source and rng.random() < 0.3):
        return ("remove" if place in model.outputs else "plan", place, options)
    if not job.prepared:
        return ("prepare", place, options)
    parts = model.parts.get((place, options, job.source), {})
    missing = [i for i in range(SHARDS) if i not in parts]
    if missing:
        return ("shard", place, options, rng.choice(missing))
    return ("finalize", place, options, rng.random() < 0.3)


def draw(rng, count):
    """So many steps.  Most of them bring a job on, were the steps before it taken."""
    model, steps, place, options = Model(), [], "one", "importance"
    while len(steps) < count:
        if rng.random() < 0.15:
            place, options = rng.choice([*PLACES, "one"]), rng.choice(OPTIONS)
        call = useful(rng, model, place, options)
        if rng.random() < 0.3:
            call = rng.choice([
                ("plan", place, options), ("prepare", place, options), ("verify", place),
                ("remove", place, options),
                ("shard", place, options, rng.choice([0, 1, 2, 7])),
                ("finalize", place, options, rng.random() < 0.5),
                *[("compress", place, each, rng.random() < 0.5) for each in OPTIONS]])
        kind = rng.choices(["call", "again", "cut", "source", "changed", "lose", "damage"],
                           [22, 2, 3, 1.5, 1, 1, 1])[0]
        step = {"call": call, "again": ("again", ""), "source": ("source", rng.choice("aab") if
                rng.random() < 0.8 else "touch")}.get(
                    kind, (kind, place, options, rng.randrange(SHARDS)))
        if kind == "cut":
            step = ("cut", rng.choice(["cancel", "kill", "term"]), rng.uniform(0, 0.03), call)
            if call[0] in ("plan", "verify", "remove"):
                continue
        if kind != "again" and is_drawn(model, step):
            simulate(model, step)
        elif kind != "again":
            continue
        steps.append(step)
    return steps


def shrunk(steps, fails):
    """As few of the steps as still fail."""
    at = 0
    while at < len(steps):
        shorter = steps[:at] + steps[at + 1:]
        if fails(shorter):
            steps = shorter
        else:
            at += 1
    return steps
