"""The machine as gogpt doctor looks at it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorFacts:
    """What ``gogpt doctor`` looked at: files, metadata and environment variables. Bytes are bytes; "" is unknown."""

    variables: Mapping[str, str] = field(default_factory=dict)
    """the environment variables that are looked at and set; never a token or a password"""
    cuda_home: str | None = None
    """CUDA_HOME, else CUDA_PATH"""
    cuda_home_nvcc: bool = False
    """bin/nvcc is in it"""
    toolkits: Mapping[str, str] = field(default_factory=dict)
    """folder with bin/nvcc, links resolved -> version; usual places, CUDA_HOME and PATH"""
    named: Mapping[str, str] = field(default_factory=dict)
    """which toolkit (links resolved) CUDA_HOME, PATH and LD_LIBRARY_PATH name first, where they name one that exists"""
    missing_paths: tuple[str, ...] = ()
    """entries that name CUDA and do not exist, as ``PATH: /usr/usr/local/cuda/bin``"""
    toolkit_lacks: tuple[str, ...] = ()
    """what a build needs of the toolkit that CUDA_HOME (or PATH) names, and that is not in it"""
    nvcc_max_gcc: int | None = None
    """newest GCC that the toolkit's crt/host_config.h takes"""
    compiler: str | None = None
    gcc: int | None = None
    """major version of the compiler, where it is GCC"""
    ninja: bool = False
    torch: str | None = None
    torch_cuda: str | None = None
    """the CUDA version that torch was built with (torch/version.py); None: built without"""
    driver: str | None = None
    driver_cuda: str | None = None
    """the newest CUDA version that the driver runs"""
    gpus: tuple[str, ...] = ()
    capabilities: tuple[float, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    torch_hip: str | None = None
    """the ROCm version that torch was built with"""
    bitsandbytes_libraries: tuple[str, ...] = ()
    """native libraries in bitsandbytes' folder, as ``cpu``, ``cuda124``, ``rocm64``"""
    bitsandbytes_wanted: str | None = None
    """the one that it would load on this machine; None: it is not installed"""
    flash_attn_missing: tuple[str, ...] = ()
    """symbols that flash-attn's extension wants of torch's c10 libraries, and that those do not have"""
    interfaces: tuple[str, ...] = ()
    """network interfaces"""
    shm_total: int | None = None
    """size of /dev/shm"""
    disk: str = ""
    """folder whose disk was measured"""
    disk_free: int = 0
    disk_needed: int = 0
    """0: no recipe was given"""
    memory: int = 0
    """of one device, or of the machine without one"""
    memory_needed: int = 0
    hub_cache: str = ""
    hub_cache_exists: bool = False
    hub_cache_writable: bool = True
    searched: str | None = None
    """folder or file looked through for git-lfs pointers"""
    pointers: tuple[str, ...] = ()
    """first files that are git-lfs pointers"""
    num_pointers: int = 0
    git_lfs: bool = False
    openssl_missing: tuple[str, ...] = ()
    """what OPENSSL_CONF and OPENSSL_MODULES name and that is not there"""
    installs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """package found more than once -> ``version at folder`` of each"""
    shadows: Mapping[str, str] = field(default_factory=dict)
    """package -> file or folder of the same name that comes first on sys.path"""
