"""The tour: executes `docs/tour.ipynb`, keeps what its cells show, and makes `docs/tour.md` of it.

python benchmarks/tour.py           # five minutes on one core, in a store of its own
python benchmarks/tour.py --page    # the page alone, of the notebook as it is
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
if str(PROJECT) not in sys.path:
    sys.path.insert(0, str(PROJECT))

from benchmarks.kernels import use_own_kernels  # noqa: E402
from benchmarks.measure import MOST_SECONDS  # noqa: E402

NOTEBOOK = PROJECT / "docs" / "tour.ipynb"
PAGE = NOTEBOOK.with_suffix(".md")
PICTURES = PROJECT / "docs" / "images" / "tour"
HEAD = "<!-- Made of tour.ipynb by benchmarks/tour.py -->\n\n"
# What the cell tagged `parameters` says, so small that every cell is quick.
SMOKE: Mapping[str, int] = {"IMAGES": 1_200, "EPOCHS": 1, "LONG_EPOCHS": 12}


def read(path: Path) -> dict[str, Any]:
    """Return a notebook as the JSON that it is."""
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return notebook


def source(cell: Mapping[str, Any]) -> str:
    """Return what stands in a cell."""
    return "".join(cell["source"])


def shown(cell: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what a code cell shows below it: ``text``, or ``png`` in base64."""
    for output in cell["outputs"]:
        if output["output_type"] == "stream":
            yield "text", "".join(output["text"])
        elif "image/png" in output["data"]:
            yield "png", output["data"]["image/png"]
        else:
            yield "text", "".join(output["data"]["text/plain"]) + "\n"


def page(notebook: Mapping[str, Any]) -> tuple[str, dict[str, bytes]]:
    """Return the notebook as Markdown, and its pictures by the names that they have there."""
    parts, pictures, heading = [], {}, ""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            parts.append(source(cell))
            heading = re.findall(r"^#+ (.*)$", source(cell), re.MULTILINE)[-1:] or [heading]
            heading = heading[0]
            continue
        parts.append(f"```python\n{source(cell)}\n```")
        for kind, content in shown(cell):
            if kind == "text":
                parts.append(f"```\n{content.rstrip()}\n```")
            else:
                name = f"{len(pictures) + 1:02}.png"
                pictures[name] = base64.b64decode(content)
                parts.append(f"![Picture: {heading}](images/{PICTURES.name}/{name})")
    return HEAD + "\n\n".join(parts) + "\n", pictures


def write_page(notebook: Mapping[str, Any]) -> None:
    """Write the page and its pictures in place of the earlier ones."""
    text, pictures = page(notebook)
    PAGE.write_text(text, encoding="utf-8")
    shutil.rmtree(PICTURES, ignore_errors=True)
    PICTURES.mkdir(parents=True)
    for name, content in pictures.items():
        (PICTURES / name).write_bytes(content)


def lighter(png: str) -> str:
    """Return a picture in base64 with 64 colours: a fraction of the bytes, and nobody sees it."""
    from PIL import Image

    written = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(png))) as picture:
        picture.convert("RGB").quantize(64).save(written, "PNG", optimize=True)
    return base64.b64encode(written.getvalue()).decode()


def execute(folder: Path, numbers: Mapping[str, int]) -> Any:
    """Return the notebook with what its cells show when they are executed one after the other.

    Parameters
    ----------
    folder
        Where the kernel works, and keeps its store.
    numbers
        That are set in place of those in the cell tagged ``parameters``.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    metadata, sources = dict(notebook.metadata), [cell.source for cell in notebook.cells]
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", ()):
            for name, value in numbers.items():
                cell.source = re.sub(
                    rf"^{name} = \d+(?:_\d+)*", f"{name} = {value}", cell.source, flags=re.MULTILINE
                )
    client = NotebookClient(
        notebook,
        timeout=MOST_SECONDS,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env={**os.environ, "DIGITFLOW_STORE": str(folder / "store")})
    for cell, before in zip(notebook.cells, sources, strict=True):
        cell.source = before
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/png" in data:
                data["image/png"] = lighter(data["image/png"])
        times = cell.metadata.pop("execution", {})
        if times:
            began, ended = (
                datetime.fromisoformat(times[name])
                for name in ("iopub.execute_input", "shell.execute_reply")
            )
            took = (ended - began).total_seconds()
            print(f"{cell.id:8} {took:6.1f} s")
    notebook.metadata = nbformat.from_dict(metadata)
    return notebook


def main() -> None:
    """Execute the notebook and write it and its page, or only the page."""
    use_own_kernels(1)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", action="store_true", help="make the page, and execute nothing")
    parser.add_argument("--smoke", metavar="FILE", help="with little training, into another file")
    asked = parser.parse_args()
    if asked.page:
        write_page(read(NOTEBOOK))
        return
    import nbformat

    with tempfile.TemporaryDirectory() as folder:
        notebook = execute(Path(folder), SMOKE if asked.smoke else {})
    if asked.smoke:
        nbformat.write(notebook, asked.smoke)
        return
    nbformat.write(notebook, NOTEBOOK)
    write_page(read(NOTEBOOK))


if __name__ == "__main__":
    main()
