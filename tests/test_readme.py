"""Every command in the README is parsed by the program it names, with its presets and settings."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from cluster import demo, jobs
from cluster.bootstrap import config as bootstrap
from cluster.cli import COMMANDS
from cluster.config import load_config

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.S)


PARSERS = ("corpus", "curate", "manner", "export", "view", "status")


def commands() -> list[str]:
    text = "\n".join(BLOCKS).replace("\\\n", " ")
    lines = (re.sub(r"\s+#.*", "", line).strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def check_l2t(name: str, arguments: list[str]) -> None:
    """Parse a stage's command line as the stage itself does, without doing its work."""
    plain = [a for a in arguments if not a.startswith("--")]
    if name == "datagen":
        from datagen.config import PRESETS_DIR, DatagenConfig

        load_config(DatagenConfig, PRESETS_DIR, plain[0], plain[1:])
    elif name == "train":
        from train.cli import compare_parser, parser
        from train.config import PRESETS, TrainConfig

        if arguments[0] == "compare":
            compare_parser().parse_args(arguments[1:])
            return
        parsed = parser().parse_intermixed_args(arguments)
        load_config(TrainConfig, PRESETS, parsed.preset, parsed.overrides)
    elif name == "eval":
        from eval import rounds
        from eval.cli import OWN, _parser
        from eval.cli import main as eval_main
        from eval.config import PRESETS, EvalConfig

        if arguments[0] == "rounds":
            rounds.parser().parse_args(arguments[1:])
            return
        if arguments[0] in OWN:
            with pytest.raises(SystemExit, match="0"):
                eval_main(arguments)
            return
        parsed = _parser().parse_args(arguments)
        if parsed.command == "run":
            load_config(EvalConfig, PRESETS, parsed.preset, parsed.overrides)
    elif name == "bootstrap":
        load_config(bootstrap.BootstrapConfig, bootstrap.PRESETS_DIR, plain[0], plain[1:])
    elif name == "study":
        from eval.study.cli import parser
        from eval.study.config import STUDIES, Study

        parsed = parser().parse_intermixed_args(arguments)
        if parsed.name:
            load_config(Study, STUDIES, parsed.name, parsed.overrides)
    elif name == "demo":
        demo.steps(load_config(demo.DemoConfig, demo.PRESETS_DIR, "demo", plain))
    elif name == "submit":
        parsed = jobs.parser().parse_args(arguments)
        if parsed.list or parsed.stop or parsed.status or parsed.follow:
            return
        assert parsed.stage in jobs.STAGES
        check_l2t(parsed.stage, parsed.arguments)
    elif name in PARSERS:
        if arguments[-1] != "--help":
            importlib.import_module(COMMANDS[name].module).parser().parse_args(arguments)
    else:
        assert name in COMMANDS and arguments, f"l2t {name} {arguments}"


def test_the_readme_has_commands() -> None:
    found = commands()
    assert "make demo" in found and "make test" in found
    assert any(c.startswith("ray job submit") for c in found)


@pytest.mark.parametrize("command", commands())
def test_command_is_understood(command: str) -> None:
    words = shlex.split(command)
    words = words[next(i for i, w in enumerate(words) if "=" not in w or w.startswith("-")) :]
    program, *rest = words
    if program == "make":
        subprocess.run(["make", "-n", *rest], cwd=ROOT, check=True, capture_output=True)
    elif program.endswith("l2t"):
        assert rest[0] in COMMANDS or rest[0] == "--help"
        if rest[0] != "--help":
            check_l2t(rest[0], rest[1:])
    elif words[:3] == ["ray", "job", "submit"]:
        entry = words[words.index("--") + 1 :]
        assert entry[:2] == ["python", "-m"]
        check_l2t(entry[2], entry[3:])
    else:
        assert program in {"git", "cd", "ray", ".", "export", "source"}, f"nobody checks {command!r}"


def test_the_file_tree_is_the_real_one() -> None:
    tree = re.search(r"```text\n(cluster/.*?)```", (ROOT / "README.md").read_text(), flags=re.S)
    assert tree, "the README shows the file tree"
    folder = ""
    for line in tree[1].splitlines():
        name = line.strip().split(" ")[0]
        if not name:
            continue
        if not line.startswith(" "):
            folder = name
            assert (ROOT / folder).is_dir(), folder
        else:
            assert (ROOT / folder / name).exists(), f"{folder}{name}"
