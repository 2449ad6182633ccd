#!/usr/bin/env python3
"""Runs the published SDKs of FISCO BCOS 2.x and ours against each other, through nodes of ours.

    interop/run.py                     everything; writes interop/results.json and the tables of docs/interop.md
    interop/run.py --check             the same without writing; fails unless every cell is green
    interop/run.py --only java,rust    some SDKs, or with --profiles some profiles; writes nothing

Needs cargo, a JDK from 16 on (17 is what was run), Maven, Go from 1.21 on, Python from 3.11 on, openssl, and the registries of Rust, Java
and Go. Ends with 0 if all is well.
"""

import argparse
import json
import shutil
import sys
import time

import report
from figures import figures
from harness import Devnet, Failure, Program
from matrix import Matrix
from private import Keys, PrivateTopics
from scenarios import scenarios
from sdks import HERE, PROFILES, SDKS, TARGET, build, rust_binary, versions

START = time.monotonic()


def main():
    args = arguments()
    sdks = [SDKS[key] for key in args.only]
    shutil.rmtree(TARGET, ignore_errors=True)
    TARGET.mkdir(parents=True)
    if not args.built:
        tell("building")
        build([sdk.key for sdk in sdks])
    results = {"versions": versions(), "matrix": {}, "private": {}, "scenarios": [], "figures": {}}
    keys = Keys(rust_binary("amop"), TARGET / "keys")
    for profile in args.profiles:
        run_profile(profile, [sdk for sdk in sdks if profile in sdk.profiles], keys, results, args)
    results["seconds"] = round(time.monotonic() - START)
    (TARGET / "results.json").write_text(json.dumps(results, indent=1, ensure_ascii=False))
    bad = report.failures(results)
    if args.complete and not bad:
        bad = publish(results, args.check)
    tell(f"{report.green(results)} green, {len(bad)} not", results["seconds"])
    print("\n".join(bad))
    return 1 if bad else 0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = lambda known: lambda text: [name for name in known if name in text.split(",")] or parser.error(text)
    parser.add_argument("--check", action="store_true", help="write nothing; fail unless the documents agree")
    parser.add_argument("--only", type=names(SDKS), help=f"SDKs, of {','.join(SDKS)}")
    parser.add_argument("--profiles", type=names(PROFILES), help=f"profiles, of {','.join(PROFILES)}")
    parser.add_argument("--built", action="store_true", help="build nothing")
    parser.add_argument("--skip", default="", help="parts to leave out, of matrix,private,scenarios,figures")
    args = parser.parse_args()
    args.complete = not (args.only or args.profiles or args.skip)
    args.only, args.profiles = args.only or list(SDKS), args.profiles or list(PROFILES)
    return args


def run_profile(profile, sdks, keys, results, args):
    tell(f"profile {profile}: {', '.join(sdk.name for sdk in sdks)}")
    devnet = Devnet(str(rust_binary("amop")), profile, TARGET / profile)
    programs = {}
    try:
        for sdk in sdks:
            programs[sdk.key] = Program(
                sdk.name, sdk.argv(profile), TARGET / f"{profile}-{sdk.key}.log", sdk.dialling
            )
        matrix = Matrix(devnet, programs, sdks)
        matrix.connect()
        if "matrix" not in args.skip:
            matrix.run(tell)
            results["matrix"][profile] = matrix.results
        if "private" not in args.skip:
            private = PrivateTopics(devnet, programs, sdks, keys)
            private.connect()
            private.run(tell)
            results["private"][profile] = private.results
        if "figures" not in args.skip:
            results["figures"][profile] = figures(devnet, programs, sdks, TARGET, tell)
        if "scenarios" not in args.skip:
            results["scenarios"] += scenarios(devnet, programs, sdks, keys, tell)
    finally:
        for program in programs.values():
            program.stop()
        devnet.stop()


def publish(results, check):
    """Writes results and document, or says what in the committed ones is no longer so."""
    if not check:
        (HERE / "results.json").write_text(report.summary(results))
        report.write(results)
        return []
    return report.differences(results)


def tell(what, seconds=None):
    took = "" if seconds is None else f"  ({seconds:.1f} s)"
    print(f"[{time.monotonic() - START:6.1f}] {what}{took}", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        print(f"\nfailed: {failure}", file=sys.stderr)
        sys.exit(1)
