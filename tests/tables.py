"""The pandas side of tables.rs: random tables as pandas writes them, and what they hold as pandas reads them.

    tables.py FOLDER COUNT SEED     tables 0 ... COUNT-1 below FOLDER, and manifest.json: for each its settings, how many rows,
                                    users and items it has before any filter, and the users, items and sequences that are left

The rules are written from docs/mathematics.md, section 1, with pandas' own operations; nothing is shared with the Rust code.
"""

import json
import sys
from decimal import Decimal
from pathlib import Path

import numpy
import pandas

MISSING = ["", "NA", "N/A", "n/a", "<NA>", "#N/A", "NaN", "nan", "NULL", "Null", "null", "None", "\\N"]


def ids(random, count, kind):
    """So many raw ids of a kind, all different."""
    numbers = random.choice(10_000, size=count, replace=False)
    return {
        "integers": [str(number) for number in numbers],
        "long integers": [str(10**17 + int(number) * 10**13) for number in numbers],
        "decimals": [f"{number}.5" for number in numbers],
        "words": [f"w{number}" for number in numbers],
        "texts": [f"é {number}, \"so;\" | {number % 7}" for number in numbers],
    }[kind]


def table(random, kinds):
    """A random table: u, i, t, r, e, in which users, items and times recur."""
    rows = int(random.integers(20, 200))
    users = ids(random, int(random.integers(2, 12)), random.choice(kinds))
    items = ids(random, int(random.integers(3, 20)), random.choice(kinds))
    seconds = random.integers(1_400_000_000, 1_400_000_000 + int(random.integers(2, 1000)), size=rows)
    return pandas.DataFrame(
        {
            "u": random.choice(users, size=rows),
            "i": random.choice(items, size=rows),
            "t": seconds,
            "r": random.integers(1, 11, size=rows) / 2,
            "e": random.choice(["view", "cart", "buy"], size=rows),
        }
    )


def order(raw_ids):
    """Ascending: by value if all are decimal numbers, else by bytes."""
    raw_ids = list(raw_ids)
    number = pandas.Series(raw_ids, dtype=str).str.fullmatch(r"-?\d+(\.\d+)?").all()
    return sorted(raw_ids, key=(lambda text: (Decimal(text), text.encode())) if number else str.encode)


def expected(frame, settings):
    """What is left of a frame whose columns are text, read with these settings."""
    columns = settings["columns"]
    timed = "timestamp" in columns
    needed = ["u", "i"] + (["t"] if timed else []) + (["r"] if "rating" in columns else [])
    missing = frame[needed].isna().any(axis=1) | frame[needed].isin(MISSING).any(axis=1)
    kept = frame["e"].isin(settings["keep"]["e"]) if "keep" in settings else pandas.Series(True, index=frame.index)
    # A row that is not wanted need not be whole; it counts where it has a user and an item.
    frame = frame[~(missing & kept)]
    kept = kept[frame.index]
    named = frame[~frame[["u", "i"]].isin(MISSING).any(axis=1) & ~frame[["u", "i"]].isna().any(axis=1)]
    raw = [len(frame), named["u"].nunique(), named["i"].nunique()]
    frame = frame[kept]
    if settings.get("min_rating") is not None:
        frame = frame[pandas.to_numeric(frame["r"]) >= settings["min_rating"]]
    frame = frame.reset_index(drop=True)
    if timed:
        numeric = pandas.to_numeric(frame["t"], errors="coerce")
        dates = pandas.to_datetime(frame["t"].where(numeric.isna()), utc=True, format="mixed")
        frame["time"] = numeric.fillna(dates.astype("int64") / 1e9) if numeric.isna().any() else numeric
    else:
        frame["time"] = 0.0
    frame["row"] = frame.index
    frame["place"] = frame["i"].map({item: place for place, item in enumerate(order(frame["i"].unique()))})
    ties = "row" if settings["ties"] == "input" or not timed else "place"
    frame = frame.sort_values(["time", ties], kind="stable")
    if settings["repeats"] == "consecutive":
        frame = frame[frame.groupby("u")["i"].shift() != frame["i"]]
    elif settings["repeats"] == "all":
        frame = frame.drop_duplicates(["u", "i"])
    while True:
        before = len(frame)
        frame = frame[frame.groupby("i")["i"].transform("size") >= settings["min_item_count"]]
        frame = frame[frame.groupby("u")["u"].transform("size") >= settings["min_user_count"]]
        if settings["filter"] == "once" or len(frame) == before:
            break
    # The ids may have become numbers alone, or stopped being so, by what was filtered out.
    items = order(frame["i"].unique())
    frame["place"] = frame["i"].map({item: place for place, item in enumerate(items)})
    frame = frame.sort_values(["time", ties], kind="stable")
    users = order(frame["u"].unique())
    sequences = [frame.loc[frame["u"] == user, "i"].tolist() for user in users]
    return {"raw": raw, "users": users, "items": items, "sequences": sequences}


def write_text(random, frame, folder):
    """A text table: any separator, quotation, encoding, packing and line end that pandas writes."""
    separator = str(random.choice([",", ";", "|", "\t"]))
    quoted = bool(random.integers(2)) or separator != "\t" or frame.astype(str).map(lambda text: '"' in text).any(axis=None)
    header = bool(random.integers(4))
    ending = str(random.choice(["", "", ".gz", ".bz2", ".xz", ".zip", ".tar"]))
    # Packed text in UTF-16 is more than pandas itself can read back.
    encoding = str(random.choice(["utf-8", "utf-8-sig"] + (["utf-16"] if not ending else [])))
    path = folder / f"table.{random.choice(['csv', 'txt'])}{ending}"
    written = dict(sep=separator, encoding=encoding, lineterminator=str(random.choice(["\n", "\r\n"])))
    frame.to_csv(path, index=False, header=header, quoting=1 if quoted and random.integers(2) else 0, **written)
    read = pandas.read_csv(
        path, sep=separator, encoding=encoding, header=0 if header else None, names=None if header else list(frame),
        dtype=str, keep_default_na=False,
    )
    settings = {"columns": {}, "separator": separator if separator != "\t" else "tab", "quotes": True}
    if header and random.integers(2):
        del settings["separator"]
    names = list(frame) if header else [list(frame).index(name) + 1 for name in frame]
    settings["header"] = header
    return path, read, settings, dict(zip(frame, names))


def write_json(random, frame, folder):
    """JSON, an object a line or all in one array."""
    lines = bool(random.integers(2))
    path = folder / ("table.jsonl" if lines else "table.json")
    frame.to_json(path, orient="records", lines=lines, indent=None if lines else int(random.integers(0, 3)))
    read = pandas.read_json(path, orient="records", lines=lines, dtype=False, convert_dates=False)
    return path, read.astype(str), {"columns": {}}, {name: name for name in frame}


def write_parquet(random, frame, folder):
    """Parquet, with ids as text, as integers where they are, or as categories."""
    path = folder / "table.parquet"
    typed = frame.copy()
    if frame["u"].str.fullmatch(r"\d{1,18}").all() and random.integers(2):
        typed["u"] = typed["u"].astype("int64")
    if random.integers(2):
        typed["i"] = typed["i"].astype("category")
    codec = str(random.choice(["snappy", "gzip", "zstd", "none"]))
    typed.to_parquet(path, index=False, compression=None if codec == "none" else codec, row_group_size=50)
    return path, pandas.read_parquet(path).astype(str), {"columns": {}}, {name: name for name in frame}


def main(folder, count, seed):
    manifest = []
    for number in range(count):
        random = numpy.random.default_rng([seed, number])
        write = [write_text, write_text, write_json, write_parquet][number % 4]
        kinds = ["integers", "long integers", "decimals", "words"] + (["texts"] if write is not write_text else [])
        if write is write_text and random.integers(2):
            kinds = ["integers", "words", "texts"]
        frame = table(random, kinds)
        form = int(random.integers(4))
        if form == 1:
            frame["t"] = pandas.to_datetime(frame["t"], unit="s").dt.strftime("%Y-%m-%d %H:%M:%S")
        elif form == 2:
            frame["t"] = pandas.to_datetime(frame["t"], unit="s").dt.strftime("%Y/%m/%d %H:%M")
        elif form == 3:
            frame["t"] = frame["t"] + 0.25
        skip = write is write_text and bool(random.integers(2))
        if skip:
            frame = frame.astype(str)
            for name in random.choice(["u", "i", "t"], size=2):
                frame.loc[frame.sample(4, random_state=int(random.integers(1000))).index, name] = str(random.choice(MISSING))
        place = folder / str(number)
        place.mkdir()
        path, read, settings, names = write(random, frame, place)
        columns = {"user": names["u"], "item": names["i"]}
        if random.integers(4):
            columns["timestamp"] = names["t"]
        elif skip:
            read = read.assign(t="1")
        rated = bool(random.integers(2))
        if rated:
            columns["rating"] = names["r"]
        settings |= {
            "columns": columns,
            "min_rating": float(random.integers(1, 4)) if rated and random.integers(2) else None,
            "incomplete": "skip" if skip else "refuse",
            "repeats": str(random.choice(["keep", "keep", "consecutive", "all"])),
            "min_item_count": int(random.integers(1, 4)),
            "min_user_count": int(random.integers(3, 6)),
            "filter": str(random.choice(["once", "core"])),
            "ties": str(random.choice(["item", "input"])),
        }
        if random.integers(3) == 0:
            settings["keep"] = {"e": ["view", "buy"]}
        rules = expected(read, settings)
        if "keep" in settings:
            settings["keep"] = {names["e"]: settings["keep"]["e"]}
        manifest.append({"file": str(path.relative_to(folder)), "settings": settings} | rules)
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
