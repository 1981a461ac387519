"""An item-item recommender as a target that others run. `item_item.py RATINGS.inter` answers JSON lines on standard
input and output, `item_item.py RATINGS.inter PORT` answers HTTP. Needs Python 3.8 or later, and numpy."""
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import numpy as np

users = {}
for line in open(sys.argv[1], encoding="utf-8").read().splitlines()[1:]:
    user, item = line.split("\t")[:2]
    users.setdefault(user, []).append(item)
ids = sorted({item for items in users.values() for item in items})
number = {item: place for place, item in enumerate(ids)}
had = np.zeros((len(users), len(ids)), dtype=np.float32)
for row, items in enumerate(users.values()):
    had[row, [number[item] for item in items[:-2]]] = 1  # the last two are for validation and test
both = had.T @ had
length = np.sqrt(both.diagonal()) + 1e-9
cosine = both / np.outer(length, length)
CATALOGUE = {"items": [{"id": item} for item in ids], "max_len": 50}

def recommend(question):
    history = [number[item] for item in question["history"]]
    scores = 0.9 ** np.arange(len(history))[::-1] @ cosine[history]  # what came last counts most
    scores[history] = -1
    return {"items": [ids[place] for place in np.argsort(-scores, kind="stable")[: question["k"]]]}

class Door(BaseHTTPRequestHandler):
    protocol_version, wbufsize = "HTTP/1.1", -1  # connections stay, and head and body leave in one piece
    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        known = {"GET /v1/items": lambda: CATALOGUE, "POST /v1/recommend": lambda: recommend(json.loads(body))}
        found = known.get(f"{self.command} {self.path}")
        text = json.dumps(found() if found else {"title": "no such address"}).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    do_GET = do_POST = answer
    log_message = lambda *_: None

if len(sys.argv) > 2:
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Door).serve_forever()
print(json.dumps(CATALOGUE), flush=True)
for line in sys.stdin:
    print(json.dumps(recommend(json.loads(line))), flush=True)
