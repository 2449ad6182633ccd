"""The tables of docs/interop.md, made of what was run."""

import json
import statistics

from matrix import KINDS, PAYLOADS, PLACES, pairs
from private import CHECKS
from sdks import HERE, ROOT, SDKS

DOCUMENT = ROOT / "docs/interop.md"
RESULTS = HERE / "results.json"
# Tables that a run must find as they are written; figures differ from run to run.
CHECKED = ("matrix", "private", "scenarios")
BEGIN, END = "<!-- {}: written by interop/run.py -->", "<!-- end of {} -->"


def failures(results):
    """Every cell and scenario that is not green, in words."""
    cells = [
        f"{profile}: {cell['publisher']} → {cell['subscriber']}, {cell['place']}, {cell['kind']}, "
        f"{cell['payload']}: {cell['why']}"
        for profile, cells in results["matrix"].items()
        for cell in cells
        if not cell["ok"]
    ]
    cells += [
        f"{profile}: private, {cell['publisher']} → {cell['subscriber']}, {cell['handshake']}, {cell['place']}, "
        f"{cell['check']}: {cell['why']}"
        for profile, cells in results["private"].items()
        for cell in cells
        if not cell["ok"]
    ]
    return cells + [
        f"{item['profile']}: {item['scenario']}, {item['sdk']}: {item['why']}"
        for item in results["scenarios"]
        if not item["ok"]
    ]


def green(results):
    cells = [cell for part in ("matrix", "private") for cells in results[part].values() for cell in cells]
    return sum(cell["ok"] for cell in cells + results["scenarios"])


def counts(results, part="matrix"):
    """Per profile and pair: how many cells are green, of how many."""
    found = {}
    for profile, cells in results[part].items():
        for cell in cells:
            pair = found.setdefault(profile, {}).setdefault(f"{cell['publisher']} {cell['subscriber']}", [0, 0])
            pair[0] += cell["ok"]
            pair[1] += 1
    return found


def summary(results):
    """What is committed: every pair and scenario, without a line for each cell."""
    shown = results | {"matrix": counts(results), "private": counts(results, "private")}
    shown["first_private_ms"] = {
        " ".join(pair): {"p50": round(statistics.median(found)), "longest": round(max(found)), "tries": len(found)}
        for pair, found in first_messages(results).items()
    }
    return json.dumps(shown, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def write(results):
    text = DOCUMENT.read_text()
    for name, table in tables(results).items():
        begin, end = BEGIN.format(name), END.format(name)
        before, rest = text.split(begin)
        text = before + begin + "\n\n" + table + "\n" + end + rest.split(end)[1]
    DOCUMENT.write_text(text)


def differences(results):
    """What the committed document says otherwise than this run; figures differ from run to run and are left out."""
    text = DOCUMENT.read_text()
    wanted = {name: table for name, table in tables(results).items() if name in CHECKED}
    return [
        f"docs/interop.md: the table \"{name}\" is not what was run; interop/run.py writes it"
        for name, table in wanted.items()
        if table not in text
    ]


def tables(results):
    return {
        "versions": version_table(results),
        "matrix": matrix_tables(results),
        "private": private_tables(results),
        "scenarios": scenario_table(results),
        "figures": figure_table(results),
        "first private message": first_message_table(results),
    }


def row(*cells):
    return "| " + " | ".join(str(cell) for cell in cells) + " |\n"


def version_table(results):
    found = results["versions"]
    text = row("what", "version") + row("---", "---")
    for sdk in SDKS.values():
        if sdk.key not in ("rust", "python"):
            text += row(sdk.name.rsplit(" ", 1)[0], sdk.name.rsplit(" ", 1)[1])
    return text + "".join(row(*pair) for pair in (
        ("JDK", found["java"]), ("Go", found["go"]), ("Python", found["python"]), ("Rust", found["rust"]),
    ))


def matrix_tables(results):
    each = f"each cell is {len(PLACES)} places × {len(KINDS)} ways × {len(PAYLOADS)} payloads"
    return "".join(
        f"Profile `{profile}`; publishers down, subscribers across; {each}:\n\n"
        + pair_table([sdk for sdk in SDKS.values() if profile in sdk.profiles], found)
        for profile, found in counts(results).items()
    )


def private_tables(results):
    each = f"each cell is {len(PLACES)} places × {len(CHECKS)} checks, with `amop-client` at both ends for each handshake"
    return "".join(
        f"Profile `{profile}`; publishers down, subscribers across; {each}:\n\n"
        + pair_table([sdk for sdk in SDKS.values() if profile in sdk.profiles and sdk.key_formats], found)
        for profile, found in counts(results, "private").items()
    )


def pair_table(sdks, found):
    """A table of publishers and subscribers."""
    played = {(pub.key, sub.key) for pub, sub in pairs(sdks)}
    text = row("", *(sdk.name for sdk in sdks)) + row("---", *("---" for _ in sdks))
    for pub in sdks:
        cells = (found.get(f"{pub.key} {sub.key}") for sub in sdks)
        marks = (
            "-" if (pub.key, sub.key) not in played else f"{'✓' if cell[0] == cell[1] else '✗'} {cell[0]}/{cell[1]}"
            for cell, sub in zip(cells, sdks)
        )
        text += row(pub.name, *marks)
    return text + "\n"


def first_messages(results):
    """Per publisher, subscriber and handshake: milliseconds from subscription to the first message's answer."""
    found = {}
    for cells in results["private"].values():
        for cell in cells:
            pair = (cell["publisher"], cell["subscriber"], cell["handshake"])
            found.setdefault(pair, []).extend(cell.get("ms", ()))
    return {pair: some for pair, some in found.items() if some}


def first_message_table(results):
    text = row("publisher", "subscriber", "p50", "longest", "tries") + row(*("---" for _ in range(5)))
    for (pub, sub, handshake), some in first_messages(results).items():
        names = [SDKS[key].name for key in (pub, sub)]
        if pub == sub == "rust":
            names = [f"{name}, `Compatibility::{'All' if handshake == 'all' else 'Version2'}`" for name in names]
        text += row(*names, f"{statistics.median(some):.0f} ms", f"{max(some):.0f} ms", len(some))
    return text


def scenario_table(results):
    profiles = list(dict.fromkeys(item["profile"] for item in results["scenarios"]))
    names = list(dict.fromkeys(item["scenario"] for item in results["scenarios"]))
    text = row("scenario", *profiles) + row("---", *("---" for _ in profiles))
    for name in names:
        cells = []
        for profile in profiles:
            played = [i for i in results["scenarios"] if (i["profile"], i["scenario"]) == (profile, name)]
            good = sum(item["ok"] for item in played)
            cells.append(f"{'✓' if good == len(played) else '✗'} {good}/{len(played)}" if played else "-")
        text += row(name, *cells)
    return text


def figure_table(results):
    text = row("SDK", "profile", "construction to first answer", "round trip p50, Rust subscriber", "round trip p50, own subscriber")
    text += row(*("---" for _ in range(5)))
    for profile, found in results["figures"].items():
        for key, figure in found.items():
            own, rust = figure["round_trip_own_p50_ms"], figure["round_trip_p50_ms"]
            text += row(SDKS[key].name, profile, f"{figure['first_ms']:.0f} ms", f"{rust:.2f} ms", f"{own:.2f} ms")
    return text
