"""Lints the chart, renders both of its modes, and prints what the cluster would get.

Wants helm-python-sdk, the code of Helm itself (packaging/requirements.txt). Fails on any remark of
the linter, and where values that must be refused are not.
"""

import pathlib
import sys

from helm_python.chart import Chart, lint

CHART = pathlib.Path(__file__).parent / "procring"
REFUSED = [
    ({"mode": "both"}, "mode"),
    ({"imagePullPolicy": "Always"}, "imagePullPolicy"),
    ({"token": {"existingSecret": ""}}, "needs a token"),
    ({"mode": "sidecar", "runAsUser": 10001}, "runAsUser"),
]
RENDERED = [
    {},
    {"mode": "sidecar", "args": ["--max-exited=10"]},
    {"clients": {}, "program": {"image": "", "path": "/usr/local/bin/procring"}},
]


def main() -> None:
    """See the module."""
    wrong = []
    report = lint(CHART, strict=True)
    # An icon is for shops of charts.
    wrong += [m for m in report["messages"] if "icon is recommended" not in m["error"]]
    with Chart.load(CHART) as chart:
        for values in RENDERED:
            chart.validate_schema(values)
            for name, text in chart.render(values, name="test").items():
                if name.endswith(".yaml") and text.strip():
                    print(f"---\n{text}")
        for values, word in REFUSED:
            try:
                chart.validate_schema(values)
                chart.render(values, name="test")
                wrong.append(f"{values} are taken")
            except Exception as error:  # Of several classes, by who refuses.
                if word not in str(error):
                    wrong.append(f"{values}: {error}")
    if wrong:
        sys.exit("\n".join(map(str, wrong)))


main()
