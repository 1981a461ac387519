"""The submit command of a cluster whose machines share no working copy, for workflows.rs: `submit.py JOBSCRIPT`.

Clones the repository it is called in to a directory of the job's own, copies the files that the job declares as inputs
there, runs the job in the background, and copies back what it declares as outputs. Prints the id of the job; the job's
working copy stays in $WORKING_COPIES for the test to look at.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path


def carry(paths, origin, destination):
    """Copy files with their times; one that is not there is not carried."""
    for path in paths:
        if (origin / path).is_file():
            (destination / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(origin / path, destination / path)


def run(script, home, copy):
    """Run the job to its end, then let its outputs and at last its end be seen at home."""
    job = json.loads(re.search(r"^# properties = (.*)$", script, re.MULTILINE)[1])
    subprocess.run(["git", "clone", "--quiet", home, copy], check=True)
    carry(job["input"], home, copy)
    (copy / ".snakemake").mkdir()
    done = [Path(path).relative_to(home) for path in re.findall(r"[^\s\"']+\.job(?:finished|failed)", script)]
    for path in done:
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
    with open(copy / "job.log", "w") as log:
        subprocess.run(["sh", "-c", script.replace(str(home), str(copy))], cwd=copy, stdout=log, stderr=log)
    carry(job["output"], copy, home)
    carry(done, copy, home)


home = Path.cwd()
copy = Path(tempfile.mkdtemp(dir=os.environ["WORKING_COPIES"]))
script = Path(sys.argv[1]).read_text()
print(copy.name, flush=True)
if os.fork() == 0:
    # The submitting process waits for our output to end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    run(script, home, copy)
