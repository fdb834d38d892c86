"""The page of a bootstrap loop; what it shows of real drafts, and in a browser, is tested in tests/browser."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cluster.bootstrap.config import BootstrapConfig
from cluster.bootstrap.decision import Decision, Gain, Indicator, Mixture
from cluster.errors import UserError
from cluster.manifest import to_json
from eval.rounds import main, render
from tests.train.run_folder import HOSTILE


def loop(root: Path, **changes: object) -> BootstrapConfig:
    settings = {
        "model": "runs/first", "corpus": f"{root}/corpus", "original": [{"instructions": "runs/gold"}],
        "root": str(root), "name": "loop", "datagen": None, "train": {"preset": "demo-l2t"},
    }  # fmt: skip
    return BootstrapConfig.model_validate(settings | changes)


def results(**values: float) -> dict[str, dict[str, dict[str, float]]]:
    models = {name: {"value": value, "se": 2.0} for name, value in values.items()}
    chair = {name: {"value": 100 - value, "se": 2.0} for name, value in values.items()}
    return {"color": models, "hallucination": chair}


def decided(number: int, outcome: str = "promoted", **more: object) -> Decision:
    fields = {
        "round": number, "outcome": outcome, "reason": f"because {number}", "incumbent": number - 1,
        "mixture": Mixture(
            drafts={"accepted": 30, "rejected:gate:rating": 10 * number}, original_rows=100, written_rows=30,
            self_weight=1.0, self_share=30 / 130,
        ),
        "gain": Gain(value=4.0, se=1.0, low=2.4), "finished": "2026-11-21T22:00:00+00:00",
        "indicators": (Indicator(name="distinct_2", value=0.1, reference=0.2, floor=0.6),),
        "results": results(round0=40.0, **{f"round{number}": 40.0 + 5 * number}),
    }  # fmt: skip
    return Decision.model_validate(fields | more)


def test_rounds_stand_side_by_side(tmp_path: Path) -> None:
    text = render(loop(tmp_path), [decided(1), decided(2, "kept_out"), decided(3, "collapsed", results={})])
    assert text.count("round 3") >= 3 and "kept out" in text and "because 3" in text
    assert "23.1 %" in text, "30 self-written rows of 130"
    assert "0.50" in text and "crossed" in text, "half of the reference where six tenths are asked for"
    assert "+4.0" in text and "+2.4 %" in text
    # 10 of 40, 20 of 50, 30 of 60 drafts were rated away.
    assert [f"{share:.1f} %" in text for share in (25.0, 40.0, 50.0)] == [True] * 3
    # 45 and 50 of 100 for colors; made-up objects fall by as much of 60.
    assert "round1: 45" in text and "round2: 50" in text and "hallucination" in text


def test_a_loop_that_only_counts_steps_has_nothing_written(tmp_path: Path) -> None:
    plain = decided(1, mixture=Mixture(original_rows=100), gain=None, indicators=(), results={})
    text = render(loop(tmp_path), [plain])
    assert "nobody" in text and "Where drafts went" not in text and "Signs of collapse" not in text


def test_hostile_texts_are_text(tmp_path: Path) -> None:
    text = render(loop(tmp_path, model=HOSTILE), [decided(1, reason=HOSTILE)])
    assert "<script" not in text and "default-src &#39;none&#39;" in text


def test_the_command_writes_it_beside_the_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = loop(tmp_path)
    home = tmp_path / "bootstrap" / "loop"
    home.mkdir(parents=True)
    (home / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    with pytest.raises(UserError, match="no round is finished yet"):
        main([str(home)])
    (home / "round-1.json").write_bytes(to_json(decided(1)))
    assert main([str(home)]) == 0
    assert capsys.readouterr().out.strip() == str(home / "rounds.html")
    assert "because 1" in (home / "rounds.html").read_text()

    moved = tmp_path / "elsewhere" / "bootstrap" / "again"
    moved.parent.mkdir(parents=True)
    home.rename(moved)
    assert main([str(moved), "--out", str(tmp_path / "page.html")]) == 0
    assert "because 1" in (tmp_path / "page.html").read_text()
