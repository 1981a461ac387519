"""How many questions a second gro-serve answers, and how soon, beside the same model in PyTorch behind FastAPI. Needs `wrk`.

    bench/service.py [--binary target/release/gro-serve] [--peer PYTHON] [--seconds 5] [--connections 64] TARGET ...

Each TARGET is the directory of an undefended target. The load generator runs on the same cores, on one thread. Two loads: `strangers`, each
question with a history of 1 to 50 random items that nobody has seen before; and `accounts`, a thousand of them in turn, of all these lengths to begin
with, each with one random item more than before, until it has 50 and begins anew. PYTHON has torch, safetensors, fastapi and uvicorn; without it there is no peer. Answers of the two are compared
first: they must be the same lists.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

# Bodies are made by wrk itself, so that no two questions are the same.
SEND = """
  return wrk.format("POST", "/v1/recommend", {["Content-Type"] = "application/json"},
    '{"account":"' .. account .. '","history":[' .. table.concat(history, ",") .. '],"k":%(k)d}')
end
"""
LOADS = {
    "strangers": """
math.randomseed(7)
request = function()
  local account, history = math.random(1000), {}
  for place = 1, math.random(50) do history[place] = tostring(math.random(%(items)d)) end
"""
    + SEND,
    "accounts": """
math.randomseed(7)
local accounts, turn = {}, 0
for account = 1, 1000 do
  accounts[account] = {}
  for place = 1, math.random(0, 49) do accounts[account][place] = tostring(math.random(%(items)d)) end
end
request = function()
  turn = turn %% 1000 + 1
  local account, history = turn, accounts[turn]
  if #history == 50 then history = {} accounts[turn] = history end
  history[#history + 1] = tostring(math.random(%(items)d))
"""
    + SEND,
}


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


def load(port, kind, items, k, arguments):
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(LOADS[kind] % {"items": items, "k": k})
        script.flush()
        command = ["wrk", "-t1", f"-c{arguments.connections}", f"-d{arguments.seconds}s", "--latency", "-s", script.name]
        said = subprocess.run([*command, f"http://127.0.0.1:{port}"], capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said:
        sys.exit(said)
    share = lambda percent: re.search(rf"^\s+{percent}%\s+(\S+)", said, re.MULTILINE)[1]
    return float(re.search(r"Requests/sec:\s+(\S+)", said)[1]), share(50), share(99)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", default="target/release/gro-serve")
    parser.add_argument("--peer")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--port", type=int, default=18080)
    parser.add_argument("targets", nargs="+")
    arguments = parser.parse_args()
    print("| target | load | k | questions a second | p50 | p99 | peer | p50 | p99 | times the peer |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for target in arguments.targets:
        ours = [arguments.binary, "http", "--target", target, "--listen", f"127.0.0.1:{arguments.port}", "--quiet"]
        running = [subprocess.Popen(ours, stdout=subprocess.DEVNULL)]
        try:
            measure(target, running, arguments)
        finally:
            for process in running:
                process.terminate()
                process.wait()


def measure(target, running, arguments):
    wait(arguments.port)
    with urllib.request.urlopen(f"http://127.0.0.1:{arguments.port}/v1/items") as answer:
        items = len(json.load(answer)["items"])
    if arguments.peer:
        script = Path(__file__).with_name("service_peer.py")
        peer = [arguments.peer, str(script), target, str(arguments.port + 1)]
        running.append(subprocess.Popen(peer))
        wait(arguments.port + 1)
        draw = random.Random(1)
        histories = [[draw.randint(1, items) for _ in range(draw.randint(1, 50))] for _ in range(50)]
        same = sum(ask(arguments.port, history, 10) == ask(arguments.port + 1, history, 10) for history in histories)
        # Scores that nearly tie may be ordered otherwise by other arithmetic.
        if same < 48:
            sys.exit(f"{target}: {same} of 50 lists are the peer's")
    for kind, k in [(kind, k) for kind in LOADS for k in (10, 100)]:
        # In turn, the idle ones cost nothing.
        rows = [load(arguments.port + place, kind, items, k, arguments) for place in range(len(running))]
        cells = [cell for rate, middle, late in rows for cell in (f"{rate:,.0f}", middle, late)] + ["", "", ""] * (2 - len(rows))
        times = f"{rows[0][0] / rows[1][0]:.1f}" if len(rows) == 2 else ""
        print(f"| {target} | {kind} | {k} | {' | '.join(cells)} | {times} |", flush=True)


if __name__ == "__main__":
    main()
