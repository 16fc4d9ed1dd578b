"""RUN660: the evaluation loss rises while the training loss falls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import PAST
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

RISEN = 1.1
"""Times the lowest evaluation loss: rounding and small evaluation sets move it by a few percent."""

MESSAGE = Text(
    en="the evaluation loss was lowest at step {lowest_step} ({lowest}) and is {last} at the end, while the training loss fell on to {late}: the model memorises",
    zh="评估损失在第 {lowest_step} 步最低（{lowest}），结束时为 {last}，而训练损失继续降到 {late}：模型在死记训练数据",
)
FIX = Text(
    en="keep the checkpoint of step {lowest_step} (load_best_model_at_end, or early stopping), train fewer epochs, or with more data",
    zh="保留第 {lowest_step} 步的检查点（load_best_model_at_end 或提前停止），减少训练轮数，或增加数据",
)


def run(facts: Facts) -> Iterator[Finding]:
    seen = facts.history
    assert seen is not None
    lowest, last, late, then = seen.lowest_eval, seen.last_eval, seen.late_loss, seen.loss_at_lowest_eval
    if lowest is None or last is None or late is None or then is None or seen.best_kept or seen.evals_after_lowest < 2:
        return
    if last > RISEN * lowest and late < 0.95 * then:
        evidence = {"lowest": lowest, "lowest_step": seen.lowest_eval_step, "last": last, "late": late, "loss_then": then, "evaluations": seen.num_evals}
        yield Finding(code="RUN660", severity=Severity.WARNING, message=MESSAGE, evidence=evidence, fix=FIX, where=seen.path)


RISING = replace(PAST, num_evals=6, lowest_eval=1.21, lowest_eval_step=100, last_eval=1.62, evals_after_lowest=4, loss_at_lowest_eval=1.1, late_loss=0.4)

CHECK = Check(
    code="RUN660",
    name="evaluation_rises",
    stage=Stage.HISTORY,
    severity=Severity.WARNING,
    needs=("history",),
    run=run,
    page=Page(
        title=Text(en="the evaluation loss rises while the training loss falls", zh="评估损失上升而训练损失下降"),
        what=Text(
            en="Whether the last evaluation loss is more than a tenth above the lowest, at least two evaluations after it, while the training loss "
            "went on falling. Silent where the best checkpoint is kept.",
            zh="检查最后的评估损失是否比最低值高出一成以上（其后至少还有两次评估），而训练损失仍在下降。若已保留最佳检查点则不报。",
        ),
        why=Text(
            en="From the lowest evaluation loss on, a run learns its rows by heart. The last checkpoint is then not the best one, and the training "
            "loss, which most people watch, looks better than ever.",
            zh="评估损失过了最低点之后，训练就是在背诵数据。最后的检查点不再是最好的，而多数人盯着的训练损失却显得比任何时候都好。",
        ),
        fix=Text(
            en="Use the checkpoint of the lowest evaluation loss. In a recipe of GoGPT: train.early_stopping and fewer train.epochs.",
            zh="使用评估损失最低的检查点。在 GoGPT 的配方中：设 train.early_stopping，减少 train.epochs。",
        ),
        example="""warning RUN660 out: the evaluation loss was lowest at step 100 (1.21) and is 1.62 at the end, while the training loss fell on to 0.4: the model memorises
  fix: keep the checkpoint of step 100 (load_best_model_at_end, or early stopping), train fewer epochs, or with more data

train:
  epochs: 1
  early_stopping: 2""",
    ),
    fires=(Facts(history=RISING),),
    silent=(Facts(history=PAST), Facts(history=replace(RISING, best_kept=True)), Facts(history=replace(RISING, last_eval=1.25)),
            Facts(history=replace(RISING, evals_after_lowest=1)), Facts(history=replace(RISING, late_loss=1.1))),
)
