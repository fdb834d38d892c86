"""The demo's plan: every step hands its output to the next by URI."""

from cluster import demo
from cluster.config import load_config


def plan(*overrides):
    return demo.steps(load_config(demo.DemoConfig, demo.PRESETS_DIR, "demo", list(overrides)))


def test_steps_hand_over_by_uri():
    steps = plan("out=r", "images=7", "train=[epochs=9]")
    assert "--images=7" in steps[0].arguments
    runs = [s for s in steps if s.module == "train"]
    assert [a for s in runs for a in s.arguments if a.startswith("output=")] == [
        "output=r/checkpoints/vit",
        "output=r/checkpoints/l2t",
    ]
    assert all("epochs=9" in s.arguments and "r/instructions/round-0" in " ".join(s.arguments) for s in runs)
    page = steps[-1].arguments
    assert "--out=r/page.html" in page and "r/instructions/bootstrap-1" in page
    models = [a for a in steps[-2].arguments if a.startswith("models.")]
    assert models == [
        "models.base=starter-base",
        "models.vit=r/checkpoints/vit/model",
        "models.l2t=r/checkpoints/l2t/model",
        "models.l2t_bootstrap=r/checkpoints/bootstrap-1/model",
    ]


def test_dry_run_lists_the_steps(capsys):
    assert demo.main(["--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "images: 600" in out and "9. put it on one page" in out and "python -m datagen demo" in out
