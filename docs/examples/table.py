"""A copy that learns nothing: what a target answered to each item alone, looked up by the last item of a history. `table.py QUERIES DATA`
takes the log that `gro-attack generate --set generate.strategy=singles` made and the dataset, and answers JSON lines on standard input and
output. Needs pyarrow."""
import json, sys
import pyarrow.parquet as parquet

queries, data = sys.argv[1:]
log = parquet.read_table(f"{queries}/queries.parquet").to_pydict()
lists = {sequence[0]: answers[0] for sequence, answers in zip(log["sequence"], log["answers"])}
items = parquet.read_table(f"{data}/items.parquet").to_pydict()
ids = dict(zip(items["item"], items["raw_id"]))
number = {raw: item for item, raw in ids.items()}
print(json.dumps({"items": [{"id": raw} for raw in ids.values()], "max_k": len(lists[1])}), flush=True)
for line in sys.stdin:
    question = json.loads(line)
    answer = lists[number[question["history"][-1]]]
    print(json.dumps({"items": [ids[item] for item in answer[: question["k"]]]}), flush=True)
