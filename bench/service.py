#!/usr/bin/env python3
"""How many questions a second gro-serve answers, and how soon, beside the same model in PyTorch behind FastAPI. Needs `wrk`.

    bench/service.py [--binary target/release/gro-serve ...] [--peer PYTHON] [--rounds 5] [--seconds 3] [--connections 64] TARGET ...

Each TARGET is the directory of an undefended target. The load generator runs on the same cores, on one thread. Three loads: `strangers`, each
question with a history of 1 to 50 random items that nobody has seen before; `accounts`, a thousand of them in turn, of all these lengths to begin
with, each with one random item more than before, until it has 50 and begins anew; and `batches`, strangers sixteen to a request, which the peer has not
and whose latency is that of a request.

Every service is asked for a second first, and then all of them in turn, a few seconds each, round by round: what the machine does beside falls on all
alike. Printed are the medians of the rounds, and the range of the rates. Several binaries are compared with the first. PYTHON has torch, safetensors,
fastapi and uvicorn; without it there is no peer. Answers of all are compared first: they must be the same lists.
"""

import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

# Requests are made by wrk itself, so that no two questions are the same, and cheaply, for it takes its time from the services.
BEGIN = """
math.randomseed(%(seed)d)
local random, texts = math.random, {}
for item = 1, %(items)d do texts[item] = tostring(item) end
local head = " HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\nContent-Type: application/json\\r\\nContent-Length: "
local function post(path, body) return "POST " .. path .. head .. #body .. "\\r\\n\\r\\n" .. body end
local function question(account, history)
  return '{"account":"' .. account .. '","history":[' .. table.concat(history, ",") .. '],"k":%(k)d}'
end
local function stranger()
  local history = {}
  for place = 1, random(50) do history[place] = texts[random(%(items)d)] end
  return question(random(1000), history)
end
"""
LOADS = {
    "strangers": BEGIN
    + """
request = function() return post("/v1/recommend", stranger()) end
""",
    "accounts": BEGIN
    + """
local accounts, turn = {}, 0
for account = 1, 1000 do
  accounts[account] = {}
  for place = 1, random(0, 49) do accounts[account][place] = texts[random(%(items)d)] end
end
request = function()
  turn = turn %% 1000 + 1
  local history = accounts[turn]
  if #history == 50 then history = {} accounts[turn] = history end
  history[#history + 1] = texts[random(%(items)d)]
  return post("/v1/recommend", question(turn, history))
end
""",
    "batches": BEGIN
    + """
request = function()
  local questions = {}
  for place = 1, 16 do questions[place] = stranger() end
  return post("/v1/recommend/batch", '{"requests":[' .. table.concat(questions, ",") .. ']}')
end
""",
}
PEER = "PyTorch"
# Questions in a request.
QUESTIONS = {"strangers": 1, "accounts": 1, "batches": 16}


def ask(port, history, k):
    body = json.dumps({"account": "1", "history": history, "k": k}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/recommend", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["items"]


def wait(port):
    for _ in range(600):
        try:
            return ask(port, [1], 1)
        except OSError:
            time.sleep(0.1)
    sys.exit(f"nothing answers on port {port}")


def milliseconds(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def load(port, kind, items, k, seed, seconds, arguments):
    """Questions a second, and the median and the 99th percentile of the latency in milliseconds."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(LOADS[kind] % {"items": items, "k": k, "seed": seed})
        script.flush()
        command = ["wrk", "-t1", f"-c{arguments.connections}", f"-d{seconds}s", "--latency", "-s", script.name]
        said = subprocess.run([*command, f"http://127.0.0.1:{port}"], capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said:
        sys.exit(said)
    share = lambda percent: milliseconds(re.search(rf"^\s+{percent}%\s+(\S+)", said, re.MULTILINE)[1])
    return QUESTIONS[kind] * float(re.search(r"Requests/sec:\s+(\S+)", said)[1]), share(50), share(99)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", action="append")
    parser.add_argument("--peer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--port", type=int, default=18080)
    parser.add_argument("targets", nargs="+")
    arguments = parser.parse_args()
    binaries = arguments.binary or ["target/release/gro-serve"]
    print("| target | load | k | service | questions a second | least to most | p50 ms | p99 ms | times |")
    print("|---|---|---|---|---|---|---|---|---|")
    for target in arguments.targets:
        port = lambda place: arguments.port + place
        run = lambda place, binary: [binary, "http", "--target", target, "--listen", f"127.0.0.1:{port(place)}", "--quiet"]
        names = [Path(binary).name for binary in binaries]
        commands = [run(place, binary) for place, binary in enumerate(binaries)]
        if arguments.peer:
            script = Path(__file__).with_name("service_peer.py")
            names.append(PEER)
            commands.append([arguments.peer, str(script), target, str(port(len(binaries)))])
        running = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for command in commands]
        try:
            measure(target, [(name, port(place)) for place, name in enumerate(names)], arguments)
        finally:
            for process in running:
                process.terminate()
                process.wait()


def asked(kind, services):
    """The services that have such a load's form of question."""
    return [(name, port) for name, port in services if kind != "batches" or name != PEER]


def measure(target, services, arguments):
    for _, port in services:
        wait(port)
    first = services[0][1]
    with urllib.request.urlopen(f"http://127.0.0.1:{first}/v1/items") as answer:
        items = len(json.load(answer)["items"])
    draw = random.Random(1)
    histories = [[draw.randint(1, items) for _ in range(draw.randint(1, 50))] for _ in range(50)]
    for name, port in services[1:]:
        same = sum(ask(first, history, 10) == ask(port, history, 10) for history in histories)
        # Scores that nearly tie may be ordered otherwise by other arithmetic.
        if same < 48:
            sys.exit(f"{target}: {same} of 50 lists are those of {name}")
    cells = [(kind, k) for kind in LOADS for k in (10, 100)]
    found = {}
    for _, port in services:
        load(port, "strangers", items, 10, 1, 1, arguments)
    for number in range(arguments.rounds):
        for cell in cells:
            for name, port in asked(cell[0], services):
                # In turn, the idle ones cost nothing.
                row = load(port, cell[0], items, cell[1], 2 + number, arguments.seconds, arguments)
                found.setdefault((cell, name), []).append(row)
    for cell in cells:
        for name, _ in asked(cell[0], services):
            rates, middles, lates = zip(*found[cell, name])
            rate = statistics.median(rates)
            times = statistics.median(row[0] for row in found[cell, services[0][0]]) / rate
            print(
                f"| {target} | {cell[0]} | {cell[1]} | {name} | {rate:,.0f} | {min(rates):,.0f} to {max(rates):,.0f} "
                f"| {statistics.median(middles):.2f} | {statistics.median(lates):.2f} | {times:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
