"""What a recipe costs on a cluster that is not here: memory, traffic, time, and what breaks first. Pure arithmetic over shapes.

Sources: sharded states and their traffic, Rajbhandari et al., ZeRO (arXiv:1910.02054, sections 5 and 7); operations of a decoder,
Kaplan et al. (arXiv:2001.08361, section 2.1): 2 a parameter and token forward, 4 backward. Devices: their vendors' data sheets.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gogpt.config import RunConfig
from gogpt.errors import GogptError
from gogpt.memory import WEIGHT_BYTES, Work, activations
from gogpt.modelfiles import Checkpoint, count_trainable
from gogpt.plan import pick_weights_dtype
from gogpt.quantisation import weight_bytes

GIB = 2**30
RESERVE = 4 * GIB
"""Assumed: the device's context, buffers of the communication library, and what the allocator cannot use."""
PER_NODE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """``memory`` in bytes; ``flops`` of dense bfloat16 a second; ``bandwidth`` of its memory, and ``link`` to the others of its node in one
    direction, in bytes a second; ``network`` of a node of 8, in one direction."""

    name: str
    memory: int
    flops: float
    bandwidth: float | None
    link: float
    network: float
    source: str


def _device(name: str, gib: int, tflops: float, bandwidth: float | None, link: float, network: float, source: str) -> Device:
    return Device(name=name, memory=gib * GIB, flops=tflops * 1e12, bandwidth=None if bandwidth is None else bandwidth * 1e9, link=link * 1e9,
                  network=network * 1e9, source=source)


DEVICES = {d.name: d for d in (
    _device("A100-40G", 40, 312, 1555, 300, 200, "NVIDIA A100 data sheet (SXM); DGX A100: 8 x 200 Gb/s"),
    _device("A100-80G", 80, 312, 2039, 300, 200, "NVIDIA A100 data sheet (SXM); DGX A100: 8 x 200 Gb/s"),
    _device("H100-80G", 80, 989, 3350, 450, 400, "NVIDIA H100 data sheet (SXM); DGX H100: 8 x 400 Gb/s"),
    _device("H200-141G", 141, 989, 4800, 450, 400, "NVIDIA H200 data sheet (SXM); DGX H200: 8 x 400 Gb/s"),
)}
"""NVLink is quoted for both directions together: half of it counts. Peaks are without sparsity."""
_NAMED = re.compile(r"\s*(\d{1,7})\s*x\s*([A-Za-z]\w*-\d+G)B?\s*", re.I)
_FREE = re.compile(r"\s*(\d{1,7})\s*x\s*(\d{1,7})\s*(?:GiB|GB|G)?\s*@\s*(\d{1,7}(?:\.\d+)?)\s*(?:TFLOPS)?\s*", re.I)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumed:
    """What no data sheet says. ``utilisation``: operations done, as a share of the peak. ``link_utilisation``: bytes moved, as a share of the link.
    ``prepare_rate``: tokens that one core prepares in a second. ``cores``: of them, for each device."""

    utilisation: float = 0.4
    link_utilisation: float = 0.8
    prepare_rate: float = 1e6
    cores: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    count: int
    device: Device

    @property
    def wire(self) -> float:
        """Bytes a second that a ring over all devices moves through each: the node's network is shared by rings, one a device."""
        return self.device.link if self.count <= PER_NODE else min(self.device.link, self.device.network)


def parse_cluster(text: str) -> Cluster:
    """``8xA100-80G``, or ``8 x 80 @ 312`` (GiB, TFLOPS; over PCIe 4.0 x16 and 100 Gb/s). Raises GogptError CFG256."""
    if (named := _NAMED.fullmatch(text)) and named[2].upper() in DEVICES and int(named[1]):
        return Cluster(count=int(named[1]), device=DEVICES[named[2].upper()])
    if (free := _FREE.fullmatch(text)) and int(free[1]) and int(free[2]) and float(free[3]):
        device = _device(f"{free[2]} GiB, {free[3]} TFLOPS", int(free[2]), float(free[3]), None, 32, 12.5, "as given; links assumed: PCIe 4.0 x16, 100 Gb/s a node; without a memory bandwidth the update counts 0")
        return Cluster(count=int(free[1]), device=device)
    raise GogptError("CFG256", "no such cluster", where="--cluster", got=repr(text), expected=f"COUNTxDEVICE, a device of {', '.join(DEVICES)}; or COUNT x GIB @ TFLOPS",
                     fix="for example 8xA100-80G, or '8 x 80 @ 312'")


# -- sizes ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Parameters: all, trainable, matrices of the layers, the output head's, of the largest piece that is gathered at once, trainable matrices."""

    parameters: int
    trainable: int
    body: int
    head: int
    piece: int
    trainable_matrices: int
    layers: int
    attention_width: int
    trained_layers: float
    """share of the layers through which the gradient goes"""


def size_of(config: RunConfig, checkpoint: Checkpoint) -> Size:
    """Raises GogptError MOD500 where parameters alone do not tell the operations."""
    if checkpoint.has_experts or not checkpoint.linear_modules():
        raise GogptError("MOD500", "this model's operations cannot be told from its shapes", where=str(checkpoint.folder),
                         got="a mixture of experts: a token uses some of the weights" if checkpoint.has_experts else "no matrices in layers of a usual name",
                         expected="a dense decoder", fix="plan a dense model of as many active parameters")
    trainable = count_trainable(checkpoint, config.method)
    elements = {n: math.prod(shape) for n, (shape, _) in checkpoint.tensors.items()}
    body = sum(rows * columns for rows, columns in checkpoint.linear_modules().values())
    hidden = checkpoint.number("hidden_size", "n_embd") or 0
    layers = checkpoint.number("num_hidden_layers", "n_layer") or 1
    heads = checkpoint.number("num_attention_heads", "n_head") or 1
    head = (checkpoint.number("vocab_size") or 0) * hidden
    per_layer: dict[str, int] = {}
    for name, count in elements.items():
        found = checkpoint.layer_pattern.search(name)
        key = found[1] if found else name
        per_layer[key] = per_layer.get(key, 0) + count
    kind = config.method.kind
    passes = min(1.0, config.method.trainable_layers / layers) if kind == "freeze" else 1.0
    return Size(parameters=sum(elements.values()), trainable=trainable, body=body, head=head, piece=max(per_layer.values()),
                trainable_matrices=body + head if kind == "full" else trainable, layers=layers,
                attention_width=heads * (checkpoint.number("head_dim") or hidden // heads), trained_layers=passes)


# -- memory ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceMemory:
    """Bytes of one device at the peak of a step. ``copies``: weights in bfloat16 for the computation (autocast's, or gathered layers).
    ``host``: what ``parallel.offload`` keeps in the CPU's memory, for each device; not in the total."""

    weights: int
    gradients: int
    optimizer: int
    copies: int
    activations: int
    reserve: int
    host: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.copies + self.activations + self.reserve


def zero_states(parameters: int, stage: int, world: int) -> float:
    """Bytes of weights, gradients and optimizer on each device: Adam in mixed precision, 2 + 2 + 12 a parameter (ZeRO, figure 1)."""
    return parameters * (2 / (world if stage >= 3 else 1) + 2 / (world if stage >= 2 else 1) + 12 / (world if stage >= 1 else 1))


def device_memory(config: RunConfig, checkpoint: Checkpoint, size: Size, accumulation: int) -> DeviceMemory:
    """ddp and fsdp keep what trains in float32 (4 + 4 + 8 bytes under AdamW) and compute in bfloat16 by autocast or by FSDP2's policy;
    DeepSpeed's bf16 keeps bfloat16 weights and gradients, and float32 masters with the optimizer's state (2 + 2 + 12). FSDP2 here reduces
    gradients once a step: while it accumulates, every device holds them whole. Activations: ``memory.activations``, rows full."""
    parallel, world, low = config.parallel, config.parallel.world_size, config.train.precision != "fp32"
    state = {"adamw": 8, "sgd": 0, "adafactor": 0}[config.train.optimizer]
    trainable, offload = size.trainable, parallel.offload
    dtype = pick_weights_dtype(config, "bf16" if low else "fp32")
    adapters = trainable if config.method.kind in ("lora", "qlora") else 0
    if parallel.engine == "deepspeed":
        stage, each = parallel.stage, 2 if low else 4
        weights = (size.parameters + adapters) * each / (world if stage == 3 else 1)
        gradients = trainable * each / (world if stage >= 2 else 1)
        optimizer = trainable * (state + (4 if low else 0)) / (world if stage >= 1 else 1)
        copies = 2 * size.piece * each if stage == 3 else 0
        dtype = "bfloat16" if low else "float32"
    else:
        fsdp = parallel.engine == "fsdp"
        weights = (weight_bytes(checkpoint, config.method, WEIGHT_BYTES[dtype])[0] + adapters * 4) / (world if fsdp else 1)
        gradients = trainable * 4 / (world if fsdp and accumulation == 1 else 1)
        optimizer = trainable * state / (world if fsdp else 1)
        copies = 2 * size.piece * (2 if low else 4) if fsdp else trainable * 2 if low else 0
    host = (0 if offload == "none" else optimizer) + (weights + gradients if offload == "all" else 0)
    if offload != "none":
        optimizer = 0
    if offload == "all":
        weights = gradients = 0
    tokens = config.data.max_length * config.train.micro_rows
    work = Work(tokens=tokens, length=config.data.max_length, places=tokens, again=accumulation > 1, by_stretches=True)
    acts, _ = activations(config, checkpoint, work, WEIGHT_BYTES[dtype] if low else 4, fused=False)
    return DeviceMemory(weights=math.ceil(weights), gradients=math.ceil(gradients), optimizer=math.ceil(optimizer), copies=copies, activations=acts, reserve=RESERVE,
                        host=math.ceil(host))


# -- operations and traffic ------------------------------------------------------------------------


def operations(size: Size, method: str, length: int, *, recompute: bool = False) -> float:
    """Floating point operations a token of a row of ``length``: forward 2 a matrix element; backward 2 for the activations' gradients, and 2 for
    the weights' where they train: 6 N under full, 4 N and 6 of the adapters under lora. Causal attention forward 2 x length x width a
    layer, backward twice that. ``recompute``: the layers once more forward."""
    adapters = size.trainable if method in ("lora", "qlora") else 0
    attention = 2 * length * size.attention_width * size.layers
    forward = 2 * (size.body + size.head + adapters) + attention
    backward = 2 * (size.body * size.trained_layers + size.head + adapters) + 2 * attention * size.trained_layers + 2 * size.trainable_matrices
    return forward + backward + (2 * (size.body + adapters) + attention if recompute else 0)


def traffic(config: RunConfig, size: Size, accumulation: int) -> dict[str, float]:
    """Bytes that each device sends in an optimizer step, by collective. On a ring of N, all-gather and reduce-scatter of V bytes send
    V (N - 1) / N each, an all-reduce both. Stage 2 reduces gradients after every micro-batch, the others once a step; where weights
    are sharded (zero 3, fsdp) they are gathered twice a micro-batch, frozen ones too."""
    world, low = config.parallel.world_size, config.train.precision != "fp32"
    ring = (world - 1) / world
    each = 2 if low else 4
    engine, stage = config.parallel.engine, config.parallel.stage
    adapters = size.trainable if config.method.kind in ("lora", "qlora") else 0
    everything = (size.parameters + adapters) * each
    if engine == "ddp":
        return {"all_reduce": 2 * ring * size.trainable * 4}
    if engine == "fsdp":
        return {"all_gather": 2 * accumulation * ring * everything, "reduce_scatter": ring * size.trainable * 4}
    gradients = ring * size.trainable * each
    if stage == 0:
        return {"all_reduce": 2 * gradients}
    if stage == 3:
        return {"all_gather": 2 * accumulation * ring * everything, "reduce_scatter": accumulation * gradients}
    return {"all_gather": gradients, "reduce_scatter": gradients * (accumulation if stage == 2 else 1)}


# -- the plan --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How near something is to breaking: needed over available; above 1 it breaks. ``answer``: settings that mend it, or None."""

    what: str
    ratio: float
    answer: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPlan:
    config: RunConfig
    cluster: Cluster
    size: Size
    assumed: Assumed
    memory: DeviceMemory
    tokens: int
    accumulation: int
    tokens_per_step: int
    steps: int
    operations: float
    traffic: dict[str, float]
    compute_seconds: float
    network_seconds: float
    update_seconds: float

    @property
    def step_seconds(self) -> float:
        """Traffic runs while the device computes; the slower of the two counts."""
        return max(self.compute_seconds, self.network_seconds) + self.update_seconds

    @property
    def seconds(self) -> float:
        return self.steps * self.step_seconds

    def ratios(self) -> dict[str, float]:
        train, world = self.config.train, self.cluster.count
        prepare = self.tokens / (self.assumed.prepare_rate * self.assumed.cores * world)
        return {"memory": self.memory.total / self.cluster.device.memory, "network": self.network_seconds / self.compute_seconds,
                "batch": train.micro_rows * world / train.batch_size, "data": prepare / self.seconds}


def on_cluster(config: RunConfig, cluster: Cluster) -> RunConfig:
    """The recipe with one process a device, 8 a node."""
    if config.parallel.config is not None:
        raise GogptError("CFG256", "a DeepSpeed file is not read for a cluster", where="recipe: parallel.config", expected="parallel.zero and parallel.offload",
                         fix="parallel.config=null parallel.zero=3, say")
    if config.train.micro_batch_size == "auto":
        raise GogptError("CFG256", "micro_batch_size: auto is found on the device itself", where="recipe: train.micro_batch_size", expected="a number",
                         fix="train.micro_batch_size=1; the plan says what would mend it")
    nodes = math.ceil(cluster.count / PER_NODE)
    if nodes > 1 and cluster.count % PER_NODE:
        raise GogptError("CFG256", "nodes hold 8 devices each", where="--cluster", got=str(cluster.count), expected=f"up to {PER_NODE}, or a multiple of it",
                         fix=f"take {nodes * PER_NODE}")
    return config.model_copy(update={"parallel": config.parallel.model_copy(update={"processes": cluster.count // nodes, "nodes": nodes})})


def plan_cluster(config: RunConfig, checkpoint: Checkpoint, cluster: Cluster, *, tokens: int | None = None, assumed: Assumed | None = None) -> ClusterPlan:
    """``tokens``: of the whole run, without them ``train.max_steps`` full steps. Raises GogptError CFG256 where there is neither."""
    assumed, config = assumed or Assumed(), on_cluster(config, cluster)
    train, length, world = config.train, config.data.max_length, cluster.count
    per_step = train.batch_size * length
    if tokens is None and train.max_steps is None:
        raise GogptError("CFG256", "how long the run is, is not known: data is not read for a cluster", where="--tokens", expected="the tokens of the whole run",
                         fix="--tokens 1e12, or train.max_steps in the recipe")
    steps = train.max_steps or 0 if tokens is None else math.ceil(tokens / per_step)
    accumulation = math.ceil(train.batch_size / (train.micro_rows * world))
    size = size_of(config, checkpoint)
    ops = operations(size, config.method.kind, length, recompute=train.gradient_checkpointing)
    # The devices that have most to do set the pace; where the batch is too small, the others wait.
    busy = min(train.micro_rows * accumulation, train.batch_size) * length
    sent = traffic(config, size, accumulation)
    shard = size.trainable / (world if config.parallel.engine == "fsdp" or config.parallel.stage else 1)
    # AdamW reads weight, gradient and two moments, and writes all but the gradient: 28 bytes.
    update = 0.0 if cluster.device.bandwidth is None else shard * 28 / cluster.device.bandwidth
    return ClusterPlan(
        config=config, cluster=cluster, size=size, assumed=assumed, memory=device_memory(config, checkpoint, size, accumulation),
        tokens=steps * per_step if tokens is None else tokens, accumulation=accumulation, tokens_per_step=per_step, steps=steps, operations=ops, traffic=sent,
        compute_seconds=busy * ops / (cluster.device.flops * assumed.utilisation),
        network_seconds=sum(sent.values()) / (cluster.wire * assumed.link_utilisation), update_seconds=update)


def _changed(config: RunConfig, train: dict[str, Any], parallel: dict[str, Any]) -> RunConfig:
    return config.model_copy(update={"train": config.train.model_copy(update=train), "parallel": config.parallel.model_copy(update=parallel)})


def _settings(plan: ClusterPlan, what: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Settings of train and of parallel that may mend a limit, the cheapest first."""
    micro, batch, world = plan.config.train.micro_rows, plan.config.train.batch_size, plan.cluster.count
    zero: list[dict[str, Any]] = [{"engine": "deepspeed", "zero": stage} for stage in (2, 3) if plan.config.method.kind != "qlora"]
    saved: list[dict[str, Any]] = [{"gradient_checkpointing": True}, {"gradient_checkpointing": True, "micro_batch_size": 1}]
    if what == "memory":
        yield from ((train, {}) for train in saved)
        for engine in zero:
            yield from ((train, engine) for train in ({}, *saved))
        yield from ((saved[1], {**engine, "offload": part}) for engine in zero[1:] for part in ("optimizer", "all"))
    elif what == "network":
        yield from (({"micro_batch_size": micro * k}, {}) for k in (2, 4, 8, 16) if micro * k * world <= batch)
        yield from (({}, engine) for engine in ({"engine": "deepspeed", "zero": 1}, *zero) if zero)
        for k in (2, 4, 8, 16, 32, 64):
            yield {"batch_size": batch * k}, {}
            yield {"batch_size": batch * k, "micro_batch_size": micro * k}, {}
    elif what == "batch":
        yield from (({"micro_batch_size": m}, {}) for m in sorted({max(1, batch // world), 1}, reverse=True) if m < micro)
        yield {"batch_size": micro * world}, {}


def _said(plan: ClusterPlan, train: dict[str, Any], parallel: dict[str, Any]) -> str:
    """Settings as the command line takes them, without those that the recipe has."""
    now = plan.config
    words = [f"train.{k}={str(v).lower()}" for k, v in train.items() if getattr(now.train, k) != v]
    return " ".join([*words, *(f"parallel.{k}={v}" for k, v in parallel.items() if getattr(now.parallel, k) != v)])


def limits(plan: ClusterPlan, checkpoint: Checkpoint) -> list[Limit]:
    """Memory, network, batch and data, what breaks first at the head: what is above 1, in that order of questions, then the nearest."""
    out = []
    before = plan.ratios()
    for what, ratio in before.items():
        answer = None
        if ratio > 1 and what == "data":
            answer = f"{math.ceil(plan.tokens / plan.seconds / plan.assumed.prepare_rate):,} cores"
        elif ratio > 1:
            for train, parallel in _settings(plan, what):
                tried = plan_cluster(_changed(plan.config, train, parallel), checkpoint, plan.cluster, tokens=plan.tokens, assumed=plan.assumed)
                after = tried.ratios()
                # What mends one thing must break nothing else that was whole.
                if after[what] <= 1 and (what == "memory" or all(after[k] <= 1 for k in ("memory", "batch") if before[k] <= 1)):
                    answer = _said(plan, train, parallel)
                    break
        out.append(Limit(what=what, ratio=ratio, answer=answer))
    order = {"memory": 0, "batch": 1, "network": 2, "data": 3}
    return sorted(out, key=lambda x: (x.ratio <= 1, order[x.what] if x.ratio > 1 else -x.ratio))


def to_dict(plan: ClusterPlan, checkpoint: Checkpoint) -> dict[str, Any]:
    """The document of ``gogpt plan --cluster``."""
    memory, device, train = plan.memory, plan.cluster.device, plan.config.train
    useful = operations(plan.size, plan.config.method.kind, plan.config.data.max_length)
    return {
        "device": device.name, "devices": plan.cluster.count, "source": device.source, "engine": plan.config.parallel.engine, "zero": plan.config.parallel.stage,
        "method": plan.config.method.kind, "parameters": plan.size.parameters, "trainable_parameters": plan.size.trainable,
        "batch_size": train.batch_size, "micro_batch_size": train.micro_rows, "accumulation": plan.accumulation, "max_length": plan.config.data.max_length,
        "tokens": plan.tokens, "tokens_per_step": plan.tokens_per_step, "steps": plan.steps,
        "memory": {"total": memory.total, "available": device.memory, "weights": memory.weights, "gradients": memory.gradients, "optimizer": memory.optimizer,
                   "copies": memory.copies, "activations": memory.activations, "reserve": memory.reserve, "host": memory.host},
        "operations_per_token": plan.operations, "useful_operations_per_token": useful, "traffic": plan.traffic,
        "compute_seconds": plan.compute_seconds, "network_seconds": plan.network_seconds, "update_seconds": plan.update_seconds,
        "step_seconds": plan.step_seconds, "seconds": plan.seconds, "tokens_per_second": plan.tokens_per_step / plan.step_seconds,
        "device_hours": plan.seconds * plan.cluster.count / 3600,
        "assumed": {"utilisation": plan.assumed.utilisation, "link_utilisation": plan.assumed.link_utilisation, "prepare_rate": plan.assumed.prepare_rate,
                    "cores": plan.assumed.cores},
        "limits": [{"what": x.what, "ratio": x.ratio, "answer": x.answer} for x in limits(plan, checkpoint)],
    }
