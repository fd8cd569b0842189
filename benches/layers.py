"""Says by layer where the time of a profiled program went.

    perf record -F 499 -g -o profile PROGRAM
    python3 benches/layers.py profile [MICROSECONDS]

The program has to be built with frame pointers. A sample counts for the layer of its innermost function that belongs to
one, so that the allocator and copies count for whoever called them; what the simulator does to check a run counts as a
whole. With MICROSECONDS, which is what the whole took for one unit, each layer gets its share of them.
"""

import collections
import re
import subprocess
import sys

CHECKS = [
    ("looks of the invariants", r"Simulation<S>::(look|take_looks)|checks::Checks::tick"),
    ("reopened replicas", r"settle::.*::reopened"),
    ("watches", r"Group<E>::watch"),
]

LAYERS = [
    ("secretstream, Noise", r"secretstream|replication::noise|chacha20|poly1305"),
    ("mux, frames, connection", r"replication::(mux|connection|stream|frame)"),
    ("session driver", r"replication::(session|wakeup)"),
    ("replicator, messages", r"replication::"),
    ("proof, Merkle tree", r"hypercore::(proof|merkle|flat_tree|peer|glance)"),
    ("log", r"autobee::hypercore"),
    ("store", r"autobee::store"),
    ("linearizer, graph", r"engine::(linearizer|dag|reader)"),
    ("system", r"engine::(system|replay)"),
    ("engine, the rest", r"autobee::engine"),
    ("apply", r"workload::contract|autobee::apply"),
    ("trees", r"autobee::bee"),
    ("publish", r"machine::published|Machine<.*>::publish|lock::Inside"),
    ("database: machine, shell", r"autobee::db"),
    ("environment, runtime", r"autobee::env|tokio::"),
    ("simulated disk", r"autobee_sim::disk"),
    ("simulated network", r"autobee_sim::network"),
    ("trace, scheduler, clock", r"autobee_sim::(world|executor|schedule|trace|env|lane|seed)"),
    ("simulator, the rest", r"autobee_sim"),
]


def layer(stack):
    whole = "\n".join(stack)
    for name, pattern in CHECKS:
        if re.search(pattern, whole):
            return name
    for function in stack:
        for name, pattern in LAYERS:
            if re.search(pattern, function):
                return name
    return "not attributed"


def main():
    command = ["perf", "script", "-i", sys.argv[1], "-F", "comm,ip,sym"]
    script = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    micros = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
    counts = collections.Counter()
    for sample in script.split("\n\n"):
        frames = sample.strip().split("\n")[1:]
        if frames:
            counts[layer([frame.strip().partition(" ")[2] for frame in frames])] += 1
    samples = sum(counts.values())
    for name, count in counts.most_common():
        share = count / samples
        print(f"| {name} | {100 * share:.1f} % | {micros * share:.0f} us |")
    print(f"{samples} samples")


main()
