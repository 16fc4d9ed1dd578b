"""ENV127: Files of a model or of data are git-lfs pointers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import DOCTOR
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

POINTERS = Text(
    en="{count} files are git-lfs pointers of some hundred bytes, not the data: {first}",
    zh="{count} 个文件是只有几百字节的 git-lfs 指针，而不是数据：{first}",
)
PULL = Text(en="git lfs install && git -C {folder} lfs pull (or hf download REPO --local-dir {folder})", zh="执行 git lfs install && git -C {folder} lfs pull（或 hf download REPO --local-dir {folder}）")
INSTALL = Text(
    en="sudo apt-get install git-lfs && git lfs install && git -C {folder} lfs pull (or hf download REPO --local-dir {folder})",
    zh="执行 sudo apt-get install git-lfs && git lfs install && git -C {folder} lfs pull（或 hf download REPO --local-dir {folder}）",
)


def run(facts: Facts) -> Iterator[Finding]:
    seen = facts.doctor
    assert seen is not None
    if seen.num_pointers:
        evidence = {"count": seen.num_pointers, "first": ", ".join(seen.pointers), "folder": seen.searched or ".", "git_lfs": seen.git_lfs}
        yield Finding(code="ENV127", severity=Severity.ERROR, message=POINTERS, evidence=evidence, where=seen.searched, fix=PULL if seen.git_lfs else INSTALL)


POINTER = replace(DOCTOR, pointers=("models/base/model.safetensors",), num_pointers=1)


CHECK = Check(
    code="ENV127",
    name="lfs_pointers",
    stage=Stage.ENV,
    severity=Severity.ERROR,
    needs=("doctor",),
    run=run,
    page=Page(
        title=Text(en="files are git-lfs pointers", zh="文件是 git-lfs 指针"),
        what=Text(
            en="Whether files of the folder given to gogpt doctor are git-lfs pointers: text that begins with version https://git-lfs.github.com/spec and is shorter than 1,024 bytes.",
            zh="检查交给 gogpt doctor 的目录中是否有 git-lfs 指针：以 version https://git-lfs.github.com/spec 开头、短于 1024 字节的文本。",
        ),
        why=Text(
            en="git clone without git-lfs gives pointers in place of weights and data, and exits with 0. Loaders then say that a header is too large or that JSON is invalid, which points nowhere.",
            zh="没有 git-lfs 的 git clone 得到的是指针而不是权重和数据，且退出码为 0。加载器随后报头部过大或 JSON 无效，让人找不到原因。",
        ),
        fix=Text(
            en="Install git-lfs and pull in the clone, or download the repository with hf download, which needs no git. To push a file above 5 GB by git, run hf lfs-enable-largefiles in the clone first.",
            zh="安装 git-lfs 并在克隆中 pull，或用不需要 git 的 hf download 下载。用 git 推送超过 5 GB 的文件前，先在克隆中执行 hf lfs-enable-largefiles。",
        ),
        example="""error ENV127 models/base: 1 files are git-lfs pointers of some hundred bytes, not the data: models/base/model.safetensors
  fix: git lfs install && git -C models/base lfs pull (or hf download REPO --local-dir models/base)

gogpt doctor models/base
git -C models/base lfs pull""",
    ),
    fires=(
        Facts(doctor=POINTER),
        Facts(doctor=replace(POINTER, git_lfs=False)),
    ),
    silent=(
        Facts(doctor=DOCTOR),
        Facts(doctor=replace(DOCTOR, searched=None)),
    ),
)
