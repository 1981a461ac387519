"""The PyTorch side of interchange.rs, which runs it: weights cross from one side to the other under the same names.

The three networks are written from their equations, with the parameter names of the GRO authors' code. They are small
and slow and share nothing with the Rust code, so that each can witness for the other.

    interchange.py golden FOLDER        every golden set below FOLDER: strict loading, and the scores stored there
    interchange.py load ARCH FOLDER     model.safetensors of this project: strict loading, and scores.safetensors
    interchange.py save ARCH FOLDER     NAME.pth in every form, each with NAME.safetensors to compare with
"""

import json
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional


class Norm(nn.Module):
    """The sample deviation, and epsilon outside the root."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        mean, deviation = x.mean(-1, keepdim=True), x.std(-1, keepdim=True)
        return self.weight * (x - mean) / (deviation + 1e-6) + self.bias


def holding(**children):
    """A module that only names its children."""
    module = nn.Module()
    for name, child in children.items():
        module.add_module(name, child)
    return module


def attention(query, key, value, heads, allowed):
    """Scaled dot products where `allowed` (batch, L or 1, L) says so; all arguments (batch, L, hidden)."""
    batch, length, hidden = query.shape
    query, key, value = (x.view(batch, length, heads, -1).transpose(1, 2) for x in (query, key, value))
    scores = query @ key.transpose(2, 3) / (hidden / heads) ** 0.5
    weights = scores.masked_fill(~allowed.unsqueeze(1), -1e9).softmax(-1)
    return (weights @ value).transpose(1, 2).reshape(batch, length, hidden)


def positions(ids):
    """1, 2, ... from the first real token on, 0 for the padding before it."""
    return (ids > 0).long().cumsum(1) * (ids > 0)


class Bert4Rec(nn.Module):
    def __init__(self, items, hidden, blocks, heads, max_len):
        super().__init__()
        self.heads = heads
        self.embedding = holding(
            token=nn.Embedding(items + 2, hidden, padding_idx=0),
            position=holding(pe=nn.Embedding(max_len + 1, hidden)),
            layer_norm=Norm(hidden),
        )

        def block():
            return holding(
                attention=holding(
                    linear_layers=nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(3)),
                    output_linear=nn.Linear(hidden, hidden),
                ),
                input_sublayer=holding(layer_norm=Norm(hidden)),
                feed_forward=holding(w_1=nn.Linear(hidden, 4 * hidden), w_2=nn.Linear(4 * hidden, hidden)),
                output_sublayer=holding(layer_norm=Norm(hidden)),
            )

        self.model = holding(
            transformer_blocks=nn.ModuleList(block() for _ in range(blocks)), linear=nn.Linear(hidden, hidden)
        )
        self.model.bias = nn.Parameter(torch.zeros(items + 2))

    def states(self, ids):
        """(batch, L), padded on the left, to states (batch, L, hidden)."""
        real = (ids > 0).unsqueeze(1)
        x = self.embedding.token(ids) + self.embedding.position.pe(positions(ids))
        x = self.embedding.layer_norm(x)
        for block in self.model.transformer_blocks:
            query, key, value = (layer(x) for layer in block.attention.linear_layers)
            attended = block.attention.output_linear(attention(query, key, value, self.heads, real))
            x = block.input_sublayer.layer_norm(x + attended)
            wide = functional.gelu(block.feed_forward.w_1(x), approximate="tanh")
            x = block.output_sublayer.layer_norm(x + block.feed_forward.w_2(wide))
        return functional.gelu(self.model.linear(x), approximate="tanh")

    def scores(self, states):
        return states @ self.embedding.token.weight.T + self.model.bias

    def forward(self, ids):
        """(batch, L), padded on the left, to scores (batch, L, items + 2)."""
        return self.scores(self.states(ids))


class SASRec(nn.Module):
    def __init__(self, items, hidden, blocks, heads, max_len):
        super().__init__()
        self.heads = heads
        self.embedding = holding(
            token=nn.Embedding(items + 1, hidden, padding_idx=0),
            position=holding(pe=nn.Embedding(max_len + 1, hidden)),
        )

        def block():
            return holding(
                layer_norm=Norm(hidden),
                attention=holding(
                    linear_layers=nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(3)),
                    layer_norm=Norm(hidden),
                ),
                feed_forward=holding(
                    conv1=nn.Conv1d(hidden, 4 * hidden, 1),
                    conv2=nn.Conv1d(4 * hidden, hidden, 1),
                    layer_norm=Norm(hidden),
                ),
            )

        self.model = holding(transformer_blocks=nn.ModuleList(block() for _ in range(blocks)))

    def states(self, ids):
        """(batch, L), padded on the left, to states (batch, L, hidden)."""
        length = ids.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool).tril()
        allowed = causal & (ids > 0).unsqueeze(1)
        x = self.embedding.token(ids) + self.embedding.position.pe(positions(ids))
        for block in self.model.transformer_blocks:
            normed = block.layer_norm(x)
            to_query, to_key, to_value = block.attention.linear_layers
            attended = attention(to_query(normed), to_key(x), to_value(x), self.heads, allowed)
            a = block.attention.layer_norm(attended + normed)
            wide = block.feed_forward.conv1(a.transpose(1, 2)).relu()
            x = block.feed_forward.layer_norm(block.feed_forward.conv2(wide).transpose(1, 2) + a)
        return x

    def scores(self, states):
        return states @ self.embedding.token.weight.T

    def forward(self, ids):
        """(batch, L), padded on the left, to scores (batch, L, items + 1)."""
        return self.scores(self.states(ids))


class NARM(nn.Module):
    def __init__(self, items, hidden, blocks, heads, max_len):
        super().__init__()
        double = 2 * hidden
        self.embedding = holding(token=nn.Embedding(items + 1, hidden, padding_idx=0))
        self.model = holding(
            gru=nn.GRU(hidden, double, batch_first=True),
            a_global=nn.Linear(double, double, bias=False),
            a_local=nn.Linear(double, double, bias=False),
            v_vector=nn.Linear(double, 1, bias=False),
            b_vetor=nn.Linear(hidden, 2 * double, bias=False),
        )

    def states(self, ids):
        """One row without padding, (1, L), to the state at its end, (1, 4 hidden)."""
        states, last = self.model.gru(self.embedding.token(ids))
        c_global = last.transpose(0, 1)
        mixed = functional.hardsigmoid(self.model.a_global(c_global) + self.model.a_local(states))
        weights = self.model.v_vector(mixed).softmax(1)
        c_local = (weights * states).sum(1)
        return torch.cat([c_global.squeeze(1), c_local], 1)

    def scores(self, states):
        return states @ self.model.b_vetor(self.embedding.token.weight).T

    def forward(self, ids):
        """One row without padding, (1, L), to scores (1, items + 1)."""
        return self.scores(self.states(ids))


class GRU4Rec(nn.Module):
    def __init__(self, items, hidden, blocks, heads, max_len):
        super().__init__()
        self.embedding = holding(token=nn.Embedding(items + 1, hidden, padding_idx=0))
        self.model = holding(
            gru=nn.GRU(hidden, hidden, num_layers=blocks, batch_first=True), linear=nn.Linear(hidden, hidden)
        )

    def states(self, ids):
        """One row without padding, (1, L), to states (1, L, hidden)."""
        return self.model.linear(self.model.gru(self.embedding.token(ids))[0])

    def scores(self, states):
        return states @ self.embedding.token.weight.T

    def forward(self, ids):
        """One row without padding, (1, L), to scores (1, L, items + 1)."""
        return self.scores(self.states(ids))


NETWORKS = {"bert": Bert4Rec, "sas": SASRec, "narm": NARM, "gru": GRU4Rec}

# Those of which there are golden numbers.
OF_THE_AUTHORS = {"bert", "sas", "narm"}


@torch.no_grad()
def last_scores(network, rows):
    """Scores at the end of every row of real ids, (rows, columns), one row at a time."""
    scores = [network(torch.tensor([row])) for row in rows]
    return torch.cat([score if score.dim() == 2 else score[:, -1] for score in scores])


def compare(ours, theirs, what, bound=1e-4):
    scale = theirs.abs().max().item()
    worst = (ours - theirs).abs().max().item()
    if ours.shape != theirs.shape or not worst <= bound * scale:
        sys.exit(f"{what}: differs by {worst} at a scale of {scale}; {tuple(ours.shape)}, {tuple(theirs.shape)}")
    print(f"{what}: within {worst / scale:.1e}")


def check_golden(folder):
    """The networks above are those of the golden numbers, whole padded batches and single rows alike."""
    found = sorted(folder.glob("*/*/weights.safetensors"))
    for weights in found:
        at = weights.parent
        config = json.loads((at / "config.json").read_text())
        sizes = [config[key] for key in ("num_items", "hidden", "num_blocks", "num_heads", "max_len")]
        network = NETWORKS[config["arch"]](*sizes).eval()
        network.load_state_dict(load_file(weights), strict=True)
        golden = load_file(at / "forward.safetensors")
        rows = [[id for id in row if id > 0] for row in golden["seqs"].tolist()]
        compare(last_scores(network, rows), golden.get("scores_last", golden["scores"]), f"{at}: last scores")
        if golden["scores"].dim() == 3:
            real = golden["seqs"] > 0
            with torch.no_grad():
                compare(network(golden["seqs"])[real], golden["scores"][real], f"{at}: all scores")
    if {weights.parent.name for weights in found} != OF_THE_AUTHORS:
        sys.exit(f"{folder}: expected golden sets of {sorted(OF_THE_AUTHORS)}")


def check_load(architecture, folder):
    """A checkpoint of this project loads strictly, and scores here as it did there."""
    path = folder / "model.safetensors"
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["gro"])
    sizes = [about[key] for key in ("items", "hidden", "blocks", "heads", "max_len")]
    network = NETWORKS[architecture](*sizes).eval()
    network.load_state_dict(load_file(path), strict=True)
    theirs = load_file(folder / "scores.safetensors")
    rows = [[int(id) for id in row if id > 0] for row in theirs["rows"].tolist()]
    compare(last_scores(network, rows), theirs["scores"], f"{architecture}: scores")


def spread(tensor):
    """An equal view with strides of its own: every second number of a larger storage, the last axis first."""
    order = list(range(tensor.dim()))[::-1]
    buffer = torch.zeros([2 * n + 1 for n in tensor.shape][::-1], dtype=tensor.dtype)
    view = buffer[tuple(slice(1, None, 2) for _ in order)].permute(order)
    view.copy_(tensor)
    return view


def in_one_storage(tensors):
    """Equal views that all lie in one storage, one after another."""
    storage = torch.cat([tensor.flatten() for tensor in tensors.values()])
    parts = storage.split([tensor.numel() for tensor in tensors.values()])
    return {name: part.view(tensor.shape) for (name, tensor), part in zip(tensors.items(), parts)}


def save_all(architecture, folder):
    """One model in every form in which a state dict may come, with the numbers in it as float32."""
    torch.manual_seed(1)
    network = NETWORKS[architecture](items=12, hidden=8, blocks=2, heads=2, max_len=6)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.tensor([[1, 2, 3]])).square().sum().backward()
    optimizer.step()
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    def save(name, saved, tensors, **options):
        torch.save(saved, folder / f"{name}.pth", **options)
        save_file({n: t.detach().float().contiguous() for n, t in tensors.items()}, folder / f"{name}.safetensors")

    def save_both(name, tensors):
        save(name, tensors, tensors)
        save(f"{name}-wrapped", {"model_state_dict": tensors, "epoch": 3}, tensors)

    save("bare", network.state_dict(), state)
    rest = {"optimizer_state_dict": optimizer.state_dict(), "epoch": 3, "step": torch.tensor(2**40), "best": 0.25}
    save("wrapped", {**rest, "model_state_dict": network.state_dict()}, state)
    save("parameters", dict(network.named_parameters()), state)
    save("lightning", {**rest, "state_dict": {f"model.{n}": t for n, t in state.items()}}, state)
    save("parallel", {"model": nn.DataParallel(network).state_dict()}, state)
    save("compiled", {"model": {"state_dict": {f"_orig_mod.{n}": t for n, t in state.items()}}}, state)
    for name, dtype in {"half": torch.float16, "bfloat16": torch.bfloat16, "double": torch.float64}.items():
        save_both(name, {n: t.double().mul(1 + 1e-9).to(dtype) for n, t in state.items()})
    save_both("integers", {n: t.mul(1000).round().long() for n, t in state.items()})
    save_both("transposed", {n: t.T.contiguous().T if t.dim() == 2 else t for n, t in state.items()})
    save_both("strided", {n: spread(t) for n, t in state.items()})
    save_both("shared", in_one_storage(state))
    save_both("expanded", {n: t.flatten()[:1].expand(t.shape) for n, t in state.items()})
    # Safetensors under the name of a pickle, which the first bytes tell.
    for name, dtype in {"float": torch.float32, "half": torch.float16, "bfloat16": torch.bfloat16, "double": torch.float64}.items():
        tensors = {n: t.to(dtype).contiguous() for n, t in state.items()}
        save_file({f"module.{n}": t for n, t in tensors.items()}, folder / f"foreign-{name}.pth")
        save_file({n: t.float() for n, t in tensors.items()}, folder / f"foreign-{name}.safetensors")
    # What must be refused.
    save("refused-legacy", state, {}, _use_new_zipfile_serialization=False)
    save("refused-module", network, {})
    save("refused-nothing", {"epoch": 3}, {})
    save("refused-complex", {n: t.to(torch.complex64) for n, t in state.items()}, {})
    save("refused-infinite", {n: t / 0 for n, t in state.items()}, {})


if __name__ == "__main__":
    if sys.argv[1] == "golden":
        check_golden(Path(sys.argv[2]))
    else:
        {"load": check_load, "save": save_all}[sys.argv[1]](sys.argv[2], Path(sys.argv[3]))
