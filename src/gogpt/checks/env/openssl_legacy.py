"""ENV128: OpenSSL settings name what is not there, and cryptography cannot be imported."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import DOCTOR
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MISSING = Text(
    en="{missing}: not there, so that OpenSSL's legacy provider cannot load and importing cryptography {version} (by way of transformers) may fail",
    zh="{missing}：不存在，因此 OpenSSL 的 legacy provider 无法加载，导入 cryptography {version}（经由 transformers）可能失败",
)
FIX = Text(
    en="export CRYPTOGRAPHY_OPENSSL_NO_LEGACY=1, or unset OPENSSL_CONF OPENSSL_MODULES, or pip install -U cryptography",
    zh="执行 export CRYPTOGRAPHY_OPENSSL_NO_LEGACY=1，或 unset OPENSSL_CONF OPENSSL_MODULES，或 pip install -U cryptography",
)


def run(facts: Facts) -> Iterator[Finding]:
    seen = facts.doctor
    assert seen is not None
    version = seen.versions.get("cryptography")
    if seen.openssl_missing and version and not seen.variables.get("CRYPTOGRAPHY_OPENSSL_NO_LEGACY"):
        evidence = {"missing": "; ".join(seen.openssl_missing), "version": version}
        yield Finding(code="ENV128", severity=Severity.WARNING, message=MISSING, evidence=evidence, fix=FIX)


LOST = replace(DOCTOR, openssl_missing=("OPENSSL_MODULES=/opt/conda/lib/ossl-modules holds no legacy provider",))


CHECK = Check(
    code="ENV128",
    name="openssl_legacy",
    stage=Stage.ENV,
    severity=Severity.WARNING,
    needs=("doctor",),
    run=run,
    page=Page(
        title=Text(en="OpenSSL's legacy provider cannot load", zh="OpenSSL 的 legacy provider 无法加载"),
        what=Text(
            en="Where cryptography is installed: whether OPENSSL_CONF names a file that exists, and OPENSSL_MODULES a folder with the legacy provider. Nothing is said with CRYPTOGRAPHY_OPENSSL_NO_LEGACY set.",
            zh="装有 cryptography 时，检查 OPENSSL_CONF 是否指向存在的文件、OPENSSL_MODULES 目录中是否有 legacy provider。设置了 CRYPTOGRAPHY_OPENSSL_NO_LEGACY 则不报。",
        ),
        why=Text(
            en="The error, OpenSSL 3.0's legacy provider failed to load, comes up while transformers imports a model, which has nothing to do with it (pyca/cryptography#10598).",
            zh="OpenSSL 3.0's legacy provider failed to load 这个错误出现在 transformers 导入模型时，而与模型毫无关系（pyca/cryptography#10598）。",
        ),
        fix=Text(
            en="Nothing in fine-tuning needs the legacy algorithms: switch them off with CRYPTOGRAPHY_OPENSSL_NO_LEGACY=1, or take the stale settings out.",
            zh="微调用不到这些旧算法：用 CRYPTOGRAPHY_OPENSSL_NO_LEGACY=1 关闭，或去掉过时的设置。",
        ),
        example="""warning ENV128: OPENSSL_MODULES=/opt/conda/lib/ossl-modules holds no legacy provider: not there, so that OpenSSL's legacy provider cannot load and importing cryptography 44.0.2 (by way of transformers) may fail
  fix: export CRYPTOGRAPHY_OPENSSL_NO_LEGACY=1, or unset OPENSSL_CONF OPENSSL_MODULES, or pip install -U cryptography

python -c 'import cryptography.hazmat.bindings._rust'""",
    ),
    fires=(
        Facts(doctor=LOST),
    ),
    silent=(
        Facts(doctor=DOCTOR),
        Facts(doctor=replace(LOST, versions={"torch": "2.6.0"})),
        Facts(doctor=replace(LOST, variables={"CRYPTOGRAPHY_OPENSSL_NO_LEGACY": "1"})),
    ),
)
