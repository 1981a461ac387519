"""What `bench/service.py` compares gro-serve with: the same model in PyTorch behind FastAPI, as one would write it in an afternoon.

    service_peer.py DIRECTORY PORT      DIRECTORY holds model.safetensors; as many processes as cores, each with one thread

The networks are those of `tests/interchange.py`, which the golden numbers hold to ours. A question costs one pass over its history and the
scores at its end; no gradient, no score elsewhere.
"""

import json
import os
import sys
from pathlib import Path

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from safetensors import safe_open
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from interchange import NETWORKS  # noqa: E402


class Ask(BaseModel):
    account: str | int | None = None
    history: list[str | int]
    k: int = 10


def application():
    torch.set_num_threads(1)
    path = Path(os.environ["PEER_TARGET"]) / "model.safetensors"
    with safe_open(path, "pt") as file:
        described = json.loads(file.metadata()["gro"])
    items, longest, architecture = described["items"], described["max_len"], described["architecture"]
    sizes = [described[key] for key in ("hidden", "blocks", "heads", "max_len")]
    network = NETWORKS[architecture](items, *sizes).eval()
    network.load_state_dict(load_file(path), strict=True)
    if architecture == "narm":
        # What does not depend on the question is computed once.
        table = network.model.b_vetor(network.embedding.token.weight).T.detach().contiguous()
        network.scores = lambda states: states @ table
    app = FastAPI()

    @app.post("/v1/recommend")
    async def recommend(ask: Ask):
        history = [int(item) for item in ask.history]
        # BERT4Rec predicts at a mask behind the history.
        row = (history + [items + 1] if architecture == "bert" else history)[-longest:]
        with torch.inference_mode():
            states = network.states(torch.tensor([row]))
            states = states if states.dim() == 2 else states[:, -1]
            best = network.scores(states)[0, 1 : items + 1].topk(ask.k).indices + 1
        return {"items": [str(item) for item in best.tolist()]}

    return app


if __name__ == "__main__":
    os.environ["PEER_TARGET"] = sys.argv[1]
    # The processes import this file by its name.
    sys.path.insert(0, str(Path(__file__).parent))
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    uvicorn.run(
        "service_peer:application", factory=True, port=int(sys.argv[2]), workers=os.cpu_count(), log_level="error"
    )
