"""The parts of a comparison in which a result is a group of trainings from several seeds."""

from flowers.metrics import groups, paired
from flowers.reporting import measures
from flowers.reporting.document import Section, Table
from flowers.reporting.measures import NAMES, PLAIN, count, number
from flowers.runs.predictions import Predictions

ONE_SEED = "One training each: the intervals do not hold what other seeds would change; `flowers seeds` measures it."


def compared(first: Predictions, other: Predictions, level: float) -> tuple[list[str], Section]:
    """The difference of the means, its interval at a level of significance and the verdict; and the table of scores."""
    tables = [groups.values(each.labels, each.trainings) for each in (first, other)]
    return _verdict(first, other, [table["accuracy"] for table in tables], level), _scores(first, other, tables)


def _verdict(first: Predictions, other: Predictions, values: list[groups.Values], level: float) -> list[str]:
    """Whether the mean accuracies differ, and how many trainings or images would show such a difference."""
    found = groups.difference(first.labels, *values)
    one, two = (float(each.mean()) for each in values)
    lead = measures.difference(first.name, other.name, one, two, found.interval(level), level)
    verdict = "significant" if found.p < level else "not significant"
    numbers = [len(each.trainings) for each in (first, other)]
    trainings = f"{numbers[0]:,} and {count(numbers[1], 'training')}"
    lines = [f"{lead}, {verdict} (p = {found.p:.2g}, {trainings})."]
    single = [f"'{each.name}'" for each in (first, other) if len(each.trainings) == 1]
    if len(single) == 2:
        lines.append(f"{' and '.join(single)}: one training, so the spread between seeds is not in the interval.")
    elif single:
        lines.append(f"{single[0]} is one training; the interval takes the spread between seeds from the other group.")
    if found.p >= level and found.value:
        lines.append(_needed(found))
    return lines


def _needed(found: groups.Estimate) -> str:
    trainings, images = found.needed_trainings(), found.needed_images()
    ways = [f"{_about(trainings)} trainings each on these images"] if trainings else []
    ways += [f"{_about(images)} test images"] if images else []
    share = f"with probability {100 * paired.POWER:.0f} %"
    if not ways:
        return f"A difference of {100 * abs(found.value):.1f} points needs more test images and more trainings."
    return f"A difference of {100 * abs(found.value):.1f} points would show {share} with {' or '.join(ways)}."


def _scores(first: Predictions, other: Predictions, tables: list[dict[str, groups.Values]]) -> Section:
    """Means and standard deviations of both, and the interval of the difference."""
    rows = []
    for name in [name for name in NAMES if name in tables[0]]:
        found = groups.difference(first.labels, tables[0][name], tables[1][name])
        form = "{:+.3f}" if name in PLAIN else "{:+.1%}"
        numbers = (form.format(value).removesuffix("%") for value in (found.value, *found.interval()))
        difference, low, high = numbers
        rows.append([NAMES[name], *(_spread(name, each[name]) for each in tables), difference, f"{low} to {high}"])
    header = ["measure", first.name, other.name, "difference", "95 % interval"]
    explained = (
        f"Means and standard deviations of the trainings; differences are '{other.name}' minus '{first.name}', shares "
        "in percentage points. Intervals hold both other seeds and other images (two-way analysis of variance)."
    )
    if any("folds" in each.params for each in (first, other)):
        explained += f" {measures.FOLDS}"
    return Section(f"Scores on {count(len(first.labels), 'image')}", [Table(header, rows), explained])


def _spread(name: str, values: groups.Values) -> str:
    """The mean of the trainings and, where there are several, their standard deviation."""
    means = values.mean(axis=1)
    text = number(name, float(means.mean()))
    return f"{text} ± {number(name, float(means.std(ddof=1))).removesuffix(' %')}" if len(means) > 1 else text


def _about(number: int) -> str:
    """A number with two digits that count."""
    return f"about {float(f'{number:.1e}'):,.0f}"
