"""`python -m tools.distill`: make the embedded pair's draft from nothing, or go on from one."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch

from fixtures.engines.transformers.models.cache import cache_root
from fixtures.engines.transformers.models.embedded import DRAFT_WEIGHTS, target_folder
from tools.distill.teacher import make_shards
from tools.distill.train import Agreement, Settings, evaluate, export, new_draft, train


def main() -> None:
    """Run the stages: the target's continuations, training, evaluation, export; each goes on where it stopped."""
    parser = argparse.ArgumentParser(prog="python -m tools.distill", description=__doc__)
    parser.add_argument(
        "--folder", type=Path, default=cache_root() / "distill", help="shards and checkpoint (%(default)s)"
    )
    parser.add_argument("--shards", type=int, default=48, help="batches of 96 x 256 tokens to make (%(default)s)")
    parser.add_argument("--steps", type=int, default=6000, help="training steps of 12 x 256 tokens (%(default)s)")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="at the start (%(default)s)")
    parser.add_argument("--init", type=Path, help="go on from these layers instead of the target's own")
    parser.add_argument("--output", type=Path, default=DRAFT_WEIGHTS, help="where the layers go (%(default)s)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="(%(default)s)")
    parser.add_argument("--evaluate", type=Path, help="only report the agreement of these layers")
    parser.add_argument("--seed", type=int, default=0, help="of text, sampling and order (%(default)s)")
    options = parser.parse_args()
    target, shards = target_folder(), options.folder / "shards"
    if options.evaluate:
        make_shards(target, shards, 0, seed=options.seed, device=options.device)
        _report(evaluate(new_draft(target, options.evaluate), shards, options.device))
        return
    make_shards(target, shards, options.shards, seed=options.seed, device=options.device)
    settings = Settings(steps=options.steps, learning_rate=options.learning_rate, seed=options.seed)
    model = new_draft(target, options.init)
    train(model, shards, options.folder / "checkpoint.pt", settings, options.device)
    agreement = evaluate(model, shards, options.device)
    _report(agreement)
    made_with = {
        "settings": asdict(settings),
        "shards": options.shards,
        "init": options.init.name if options.init else "",
    }
    export(
        model, options.output, {"agreement": f"{agreement[-1].all_positions:.4f}", "made_with": json.dumps(made_with)}
    )
    print(f"wrote {options.output}")


def _report(agreement: list[Agreement]) -> None:
    for item in agreement:
        generated = "" if item.generated is None else f", {item.generated:.4f} on the target's own continuations"
        print(f"agreement on held-out text ({item.kind}): {item.all_positions:.4f}{generated}")


if __name__ == "__main__":
    main()
