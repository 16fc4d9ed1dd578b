"""gogpt plan --cluster: what a recipe costs elsewhere, as text or JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gogpt.cli.console import duration, out, put_json, short_number, size
from gogpt.cli.words import say

if TYPE_CHECKING:
    from gogpt.config import RunConfig


def show_cluster(config: RunConfig, cluster: str, *, tokens: float | None, utilisation: float, output_format: str, lang: str) -> int:
    """Exit code 1 where it does not fit the devices' memory."""
    import math

    from gogpt.cluster import Assumed, parse_cluster, plan_cluster, to_dict
    from gogpt.errors import GogptError
    from gogpt.modelfiles import find_model
    from gogpt.shapes import Shapes

    if not math.isfinite(utilisation) or not math.isfinite(tokens or 0):
        raise GogptError("CFG256", "not a number", where="--tokens, --utilisation", got=f"{tokens}, {utilisation}", expected="finite numbers", fix="--tokens 1e12")
    where = parse_cluster(cluster)
    checkpoint = Shapes(find_model(config.model))
    plan = plan_cluster(config, checkpoint, where, tokens=None if tokens is None else round(tokens), assumed=Assumed(utilisation=utilisation))
    document = to_dict(plan, checkpoint)
    if output_format == "json":
        put_json(document)
    else:
        for line in lines(document, lang):
            out().print(line, markup=False, soft_wrap=True)
    return 1 if document["memory"]["total"] > document["memory"]["available"] else 0


def lines(d: dict[str, Any], lang: str) -> list[str]:
    memory, assumed = d["memory"], d["assumed"]
    engine = f"{d['engine']} {d['zero']}" if d["engine"] == "deepspeed" else d["engine"]
    parts = " + ".join(f"{say(lang, name)} {size(memory[name])}" for name in ("weights", "gradients", "optimizer", "copies", "activations", "reserve"))
    sent = " + ".join(f"{name.replace('_', '-')} {size(count)}" for name, count in d["traffic"].items())
    more = d["operations_per_token"] / d["useful_operations_per_token"] - 1
    printed = [
        say(lang, "cluster   {count} x {device} ({source}), {engine}", count=f"{d['devices']:,}", device=d["device"], source=d["source"], engine=engine),
        say(lang, "model     {method}: {trained} of {all} parameters", method=d["method"], trained=short_number(d["trainable_parameters"]), all=short_number(d["parameters"])),
        say(lang, "batch     {batch} rows of {length} tokens = {micro} x {accumulation} accumulated x {count} devices; {tokens} tokens a step", batch=f"{d['batch_size']:,}",
            length=f"{d['max_length']:,}", micro=d["micro_batch_size"], accumulation=d["accumulation"], count=f"{d['devices']:,}", tokens=short_number(d["tokens_per_step"])),
        say(lang, "memory    {total} of {available} a device = {parts}", total=size(memory["total"]), available=size(memory["available"]), parts=parts),
        say(lang, "compute   {ops} operations a token ({more} of them for recomputation): {seconds} s a step", ops=short_number(d["operations_per_token"]),
            more=f"{more / (1 + more):.0%}", seconds=f"{d['compute_seconds']:.3g}"),
        say(lang, "network   each device sends {sent} a step: {seconds} s", sent=sent, seconds=f"{d['network_seconds']:.3g}"),
        say(lang, "a step    {seconds} s = the slower of the two + {update} s for the update", seconds=f"{d['step_seconds']:.3g}", update=f"{d['update_seconds']:.2g}"),
        say(lang, "run       {tokens} tokens, {steps} steps: {time}, {rate} tokens/s, {hours} device hours", tokens=short_number(d["tokens"]), steps=f"{d['steps']:,}",
            time=_days(d["seconds"], lang), rate=short_number(d["tokens_per_second"]), hours=short_number(d["device_hours"])),
        say(lang, "assumed   {utilisation} of the peak, {link} of the links' rate, rows full, traffic hidden behind compute, {prepare} tokens/s prepared by {cores} core a device",
            utilisation=f"{assumed['utilisation']:.0%}", link=f"{assumed['link_utilisation']:.0%}", prepare=short_number(assumed["prepare_rate"]), cores=assumed["cores"]),
    ]
    if memory["host"]:
        printed.insert(4, say(lang, "host      {size} a device lies in the CPU's memory; what moving it costs is not counted", size=size(memory["host"])))
    for limit in d["limits"]:
        share = f"{limit['ratio']:.1%}" if limit["ratio"] < 10 else f"{limit['ratio']:,.0f} x"
        if limit["ratio"] <= 1:
            printed.append(say(lang, "holds     {what}: {share} of the limit", what=say(lang, limit["what"]), share=share))
        elif limit["answer"]:
            printed.append(say(lang, "breaks    {what}: {share} of the limit; mended by {answer}", what=say(lang, limit["what"]), share=share, answer=limit["answer"]))
        else:
            printed.append(say(lang, "breaks    {what}: {share} of the limit; no setting mends it on these devices, take more of them", what=say(lang, limit["what"]), share=share))
    return printed


def _days(seconds: float, lang: str) -> str:
    return say(lang, "{n} days", n=f"{seconds / 86400:,.1f}") if seconds >= 2 * 86400 else duration(seconds)
