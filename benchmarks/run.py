"""All benchmarks, or one: ``python -m benchmarks.run [--only NAME] [--json FILE] [--rounds 9]``.

It prints Markdown tables; the JSON file holds every figure, the machine, the versions and the command. Each benchmark
runs in a process of its own, so that the libraries of one cannot disturb, or crash, another.
"""

import argparse
import datetime
import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import (
    bench_bits,
    bench_kernels,
    bench_network,
    bench_networks,
    bench_pipeline,
    bench_reference,
    bench_start,
    machine,
)

__all__ = ["main"]

ROOT = Path(__file__).parents[1]
BENCHMARKS = {
    "start": bench_start,
    "bits": bench_bits,
    "network": bench_network,
    "networks": bench_networks,
    "kernels": bench_kernels,
    "reference": bench_reference,
    "pipeline": bench_pipeline,
}


def main(arguments=None):
    """Run the benchmarks, print and write the results, and return the number of benchmarks that failed."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = read(arguments)
    report = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", "benchmarks.run", *arguments]),
        "rounds": options.rounds,
        "machine": machine.describe(),
        "results": {},
        "failed": {},
    }
    if options.only:
        result = BENCHMARKS[options.only].measure(options.rounds)
        report["results"][options.only] = result
        print(f"\n## {options.only}\n\n{BENCHMARKS[options.only].markdown(result)}", flush=True)
    else:
        print(headline(report["machine"]), flush=True)
        for name in BENCHMARKS:
            measure_apart(name, options.rounds, report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return len(report["failed"])


def read(arguments):
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=BENCHMARKS, help="run one benchmark instead of all")
    parser.add_argument("--json", type=Path, help="the file for the figures")
    parser.add_argument("--rounds", type=int, default=9, help="number of turns of every peer (default 9, at least 2)")
    options = parser.parse_args(arguments)
    if options.rounds < 2:
        parser.error("expected --rounds of at least 2, because one round has no quartiles")
    return options


def measure_apart(name, rounds, report):
    """Run one benchmark in its own process, which prints its tables, and add its figures to the report."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "report.json")
        command = ["-m", "benchmarks.run", "--only", name, "--rounds", str(rounds), "--json", str(file)]
        done = subprocess.run([sys.executable, *command], cwd=ROOT, check=False)
        if done.returncode:
            report["failed"][name] = f"exit code {done.returncode}"
            print(f"\n## {name}\n\nfailed: exit code {done.returncode}", flush=True)
        else:
            report["results"] |= json.loads(file.read_text(encoding="utf-8"))["results"]


def headline(described):
    """Return the machine in one line."""
    vectors = ", ".join(described["vectors"]) or "no known vectors"
    versions = ", ".join(f"{name} {version}" for name, version in described["versions"].items())
    return f"{described['cpu']} ({vectors}), {described['threads']} threads of {described['cores']} cores; {versions}"


if __name__ == "__main__":
    sys.exit(main())
