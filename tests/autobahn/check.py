"""Judges an Autobahn report: prints a summary, exits 1 if it is not good enough."""

import collections
import json
import sys

# Cases in each group, so that one which silently did not run is noticed.
CASES = {"1": 16, "2": 11, "3": 7, "4": 10, "5": 20, "6": 145, "7": 37, "9": 54, "10": 1}
NON_STRICT_MAX = 2
# Probes of what the RFC leaves open; the suite gives them no verdict.
GOOD = {"OK", "INFORMATIONAL"}


def main(path):
    with open(path, encoding="utf-8") as file:
        ((_agent, cases),) = json.load(file).items()

    bad, non_strict = [], []
    for case, result in cases.items():
        verdicts = {result["behavior"], result["behaviorClose"]}
        if verdicts <= GOOD:
            continue
        group = non_strict if verdicts <= GOOD | {"NON-STRICT"} else bad
        group.append(f"{case} ({', '.join(sorted(verdicts))})")

    ran = collections.Counter(case.split(".")[0] for case in cases)
    seconds = sum(result["duration"] for result in cases.values()) / 1000
    print(f"{len(cases)} cases in {seconds:.1f} s: {len(bad)} failed, {len(non_strict)} non-strict")
    for title, group in (("failed", bad), ("non-strict", non_strict)):
        for case in group:
            print(f"  {title}: {case}")

    if ran != CASES:
        print(f"  expected cases by group {CASES}, ran {dict(ran)}")
    return ran == CASES and not bad and len(non_strict) <= NON_STRICT_MAX


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1]) else 1)
