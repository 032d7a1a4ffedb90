"""The quickstart behind ``make demo``: train, evaluate, predict; writes demo_output/report.md."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
OUTPUT = Path("demo_output")
MODEL = "rooms3d_efficientnet_lite0"


def tool(name: str, *arguments: str) -> None:
    """Run a script of this folder as a user would, and stop where it fails."""
    print(f"\n$ python tools/{name}.py {' '.join(arguments)}", flush=True)
    done = subprocess.run([sys.executable, str(ROOT / "tools" / f"{name}.py"), *arguments])
    if done.returncode:
        sys.exit(done.returncode)


def main() -> None:
    OUTPUT.mkdir(exist_ok=True)
    run = OUTPUT / "run"
    own = OUTPUT / "run.json"
    zoo = OUTPUT / "zoo.json"
    photos = OUTPUT / "photos"
    config = str(ROOT / "configs/rooms_resnet10t_hard.yaml")
    sample = str(ROOT / "assets/rooms3d_sample")
    tool("train", config, "--output-dir", str(run), "--resume", "auto")
    tool("eval", "--model", str(run), "--json", str(own))
    tool("eval", "--model", MODEL, "--data", sample, "--split", "val", "--json", str(zoo))
    pictures = [
        str(ROOT / "assets/photos" / name) for name in ("coffee.png", "chelsea.png", "china.jpg")
    ]
    tool("predict", "--model", MODEL, *pictures, "--output", str(photos))
    report = OUTPUT / "report.md"
    report.write_text(text(json.loads(own.read_text()), json.loads(zoo.read_text()), photos))
    epochs = sorted((run / "pictures").glob("*.jpg"))
    print(f"\nThe report:                  {report}")
    print(f"Predictions on photographs:  {photos}/*_panel.jpg")
    print(f"Validation beside the truth: {epochs[-1]}")
    print(f"The model that was trained:  {run / 'model'}")


def text(own: dict[str, dict[str, float]], zoo: dict[str, dict[str, float]], photos: Path) -> str:
    """The report: both models in a table, and the panels."""
    rows = [("semseg", "miou"), ("depth", "rmse"), ("normals", "mean"), ("detection", "map")]
    lines = [
        "# visionmtl demo",
        "",
        "| | trained here, on procedural rooms | zoo checkpoint, on the rooms3d sample |",
        "|---|---|---|",
    ]
    for task, key in rows:
        lines.append(f"| {task} {key} | {own[task][key]:.3f} | {zoo[task][key]:.3f} |")
    lines += [
        "",
        "Two models on two data sets: the columns are not a comparison. "
        "Shares in percent, metres, degrees.",
        "",
    ]
    for panel in sorted(photos.glob("*_panel.jpg")):
        lines.append(f"![{panel.stem}]({photos.name}/{panel.name})\n")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
