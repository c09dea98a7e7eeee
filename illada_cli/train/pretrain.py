"""`illada pretrain`: packed rows and a recipe in, a trained model out."""

from __future__ import annotations

from illada_cli.options import takes_options
from illada_cli.train.options import PretrainOptions


@takes_options
def pretrain(asked: PretrainOptions) -> None:
    """Train a masked-diffusion language model by a recipe.

    Packaged recipes are 8b (the paper's), 1b, 100m and demo. --resume RUN, or the same command
    again, goes on where an earlier one stopped, bit for bit. SIGINT and SIGTERM finish the step and
    save; a file named `decay` put into the run folder starts the decay of the learning rate.

    \b
    Examples:
      illada pretrain demo --data corpus-packed
      illada pretrain --resume runs/demo
      illada pretrain 8b --dry-run > my.toml
      illada pretrain 8b --dry-run --gpus 512 --gpu h100
      illada pretrain my.toml --data corpus-packed -o runs/mine --set optimizer.peak_lr=3e-4
      illada pretrain my.toml --data corpus-packed -o runs/mine --nproc 8 --restarts 3
      srun illada pretrain my.toml --data corpus-packed -o runs/mine --nproc 8 --nodes auto
      touch runs/mine/decay
    """
    from illada_cli.train.run import run

    run("pretrain", asked)
